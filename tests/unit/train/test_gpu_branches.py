"""What only a GPU brings about, executed on a CPU: CUDA's answers by stand-ins.

``test_every_branch_is_executed`` finds the branches in the source and shows by coverage which scenario ran each.
"""

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coverage
import peft  # noqa: F401 - before a card is there: bitsandbytes, which it imports, would look for one
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from phisight.core.settings import ModelSettings, Recipe, TrainSettings
from phisight.generate.decoding.static_step import StaticStep, recorder_of
from phisight.model.attention import require_backend
from phisight.train.acceleration import fused_linear, one_kernel, rms_norm, rotary_attention
from phisight.train.acceleration.bfloat16 import chosen_type, computes_bfloat16, slow_bfloat16
from phisight.train.acceleration.liger import use_liger
from phisight.train.acceleration.patch import fuse_for_prediction, fused_layers, fuses
from phisight.train.acceleration.product_types import ProductTypes
from phisight.train.checkpoint.save_restore import restore_schedule
from phisight.train.distributed import process_group
from phisight.train.distributed.placement import Placement
from phisight.train.evaluation import preserved_state
from phisight.train.examples.collators import PackingCollator
from phisight.train.loader import evaluation_loader
from phisight.workflows import load
from phisight.workflows.doctor import examine
from tests.helpers.gpu_branches import branches

SOURCE = Path(load.__file__).parents[1]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has one GPU; tensors stay on the CPU."""
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda _: SimpleNamespace(name="A Card"),
        "mem_get_info": lambda _: (70e9, 80e9),
        "is_bf16_supported": lambda **_: True,
        "empty_cache": lambda: None,
        "set_device": lambda _: None,
        "get_rng_state": lambda _: torch.zeros(8, dtype=torch.uint8),
        "set_rng_state": lambda _state, _device: None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)


def back_ends(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    require_backend("flash_attention_2")
    require_backend("flex_attention")


def doctor(_: pytest.MonkeyPatch, __: Any) -> None:
    found = {finding.about: finding for finding in examine()}
    assert found["GPU 0"].verdict == "ok"
    assert found["bfloat16"].verdict == "ok"
    recipe = Recipe(model=ModelSettings(dtype="float32"), train=TrainSettings(liger=True))
    assert "on the GPU" in {one.about: one for one in examine(recipe)}["recipe"].text
    assert "flex_attention" in found["attention"].text


def moves(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    """A model goes to the card, with whatever changes it on the CPU done first."""
    done: list[Any] = []
    move: Any = nn.Module.to

    def to(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if args == ("cuda",):
            done.append("moved")
            return self
        return move(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "to", to)

    def change(model: Any) -> Any:
        done.append("changed")
        return model

    load.new_model(ModelSettings(), ["a text"], 0, change)
    assert done == ["changed", "moved"]


def evaluation(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    """The card's random state is put back, too."""
    restored: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append(device))
    with preserved_state(model):
        pass
    assert restored == [0]


class Lengths:
    """As much of an example set as its loader asks for."""

    lengths = (3, 4)

    def __len__(self) -> int:
        return len(self.lengths)


def loader(_: pytest.MonkeyPatch, __: Any) -> None:
    """Batches lie in pinned memory, from which the card copies while it computes."""
    assert evaluation_loader(Lengths(), PackingCollator(), Recipe(), 0, 1).pin_memory


def groups(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    """Ranks with cards use NCCL for their tensors and gloo for everything else, each on its own card."""
    begun: list[Any] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", begun.append)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: begun.append(backend))
    monkeypatch.setattr(dist, "new_group", lambda backend, timeout: begun.append(backend))
    monkeypatch.setattr(dist, "barrier", lambda _: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with process_group.joined():
        assert begun == [1, "cpu:gloo,cuda:nccl", "gloo"]


def placement(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Placement(nn.Linear(2, 2), TrainSettings())


def kernels(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    """Liger gets the model itself; the layers of phisight's own stay off unless asked for; chains are compiled once."""
    patched: list[Any] = []
    planted: Any = types.ModuleType("liger_kernel.transformers")

    def apply_liger_kernel_to_phi3(
        rope: bool, cross_entropy: bool, fused_linear_cross_entropy: bool, rms_norm: bool, swiglu: bool, model: Any
    ) -> None:
        patched.append((model, rope, rms_norm, swiglu, cross_entropy, fused_linear_cross_entropy))

    planted.apply_liger_kernel_to_phi3 = apply_liger_kernel_to_phi3
    monkeypatch.setitem(sys.modules, "liger_kernel", types.ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", planted)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    use_liger(model)
    assert patched == [(model, True, True, True, False, False)]
    assert not fuses(TrainSettings())
    assert fuses(TrainSettings(fused="on"))

    monkeypatch.setattr(one_kernel, "on_gpu", lambda _: True)
    compiled: list[Any] = []

    def count(chain: Any) -> Any:
        compiled.append(chain)
        return chain

    monkeypatch.setattr(torch, "compile", count)
    doubled = one_kernel.one_kernel(lambda tensor: tensor * 2)
    assert torch.equal(doubled(torch.ones(2)) + doubled(torch.ones(2)), torch.full((2,), 4.0))
    assert len(compiled) == 1

    def no_compiler(_: Any) -> Any:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(torch, "compile", lambda _: no_compiler)
    assert torch.equal(one_kernel.one_kernel(lambda tensor: tensor * 2)(torch.ones(2)), torch.full((2,), 2.0))

    def too_large(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda _: too_large)
    with pytest.raises(torch.OutOfMemoryError):
        one_kernel.one_kernel(lambda tensor: tensor * 2)(torch.ones(2))


def fused_chains(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    """A step's chains as a GPU has them; what they compute, test_one_kernel.py compares with the library."""
    for module in (fused_linear, rms_norm, rotary_attention):
        monkeypatch.setattr(module, "on_gpu", lambda _: True)
    ids = torch.randint(10, 20, (1, 8))
    with fused_layers(model, wanted=True):
        model(input_ids=ids, labels=ids, skip_logits=True).loss.backward()


def prediction(_: pytest.MonkeyPatch, model: Any) -> None:
    """Prediction on a card keeps the library's layers."""
    fuse_for_prediction(model)
    assert not [name for name, module in model.named_modules() if "forward" in vars(module)]


def memory(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    """A card that is too small is no missing model."""
    with pytest.raises(torch.OutOfMemoryError), load.loading("folder"):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def too_large(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", too_large)
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    with pytest.raises(torch.OutOfMemoryError):
        restore_schedule(Path("checkpoint"), torch.optim.lr_scheduler.ConstantLR(optimizer))


def reduced_precision(_: pytest.MonkeyPatch, __: Any) -> None:
    assert computes_bfloat16(TrainSettings(bf16="auto"))
    assert "this GPU has instructions" in chosen_type()
    assert slow_bfloat16("the steps compute", "no repair") is None
    found = ProductTypes()
    found.add("layer", torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(4, 2))
    assert "partial sums may be added in bfloat16" in found.describe(torch.device("cuda"))


class Stream:
    """A stream that says who waits for whom."""

    waits: list[tuple[str, str]]

    def __init__(self, name: str, waits: list[tuple[str, str]]) -> None:
        self.name, self.waits = name, waits

    def wait_stream(self, other: "Stream") -> None:
        self.waits.append((self.name, other.name))


def graphs(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    """A step is warmed up twice on a stream beside, recorded once, replayed; or runs as it is where it cannot be."""
    waits: list[tuple[str, str]] = []
    done: list[str] = []
    refuses = False

    class Graph:
        def replay(self) -> None:
            done.append("replay")

    @contextmanager
    def record(graph: Any, pool: Any, capture_error_mode: str) -> Iterator[None]:
        assert isinstance(graph, Graph)
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        if refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        done.append("record")
        yield

    current = Stream("current", waits)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "Stream", lambda: Stream("beside", waits))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("synchronize"))

    def step() -> Any:
        done.append("step")
        return torch.ones(1), None

    recorder = recorder_of(torch.device("cuda"))
    assert recorder is not None
    replay = recorder(step)
    assert done == ["step", "step", "record", "step"]
    assert waits == [("beside", "current"), ("current", "beside")]
    first, second = replay(), replay()
    assert done[4:] == ["replay", "replay"]
    assert first[0] is second[0]
    refuses = True
    done.clear()
    assert recorder(step) is step
    assert done == ["step", "step", "synchronize"]
    assert recorder_of(torch.device("cpu")) is None


def pinned(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    """What is sent to a card each step lies in pinned memory."""
    made: list[Any] = []
    zeros: Any = torch.zeros

    def on_cpu(*shape: Any, device: Any = None, pin_memory: bool = False, **options: Any) -> Tensor:
        made.append((str(device), pin_memory))
        found: Tensor = zeros(*shape, **options)
        return found

    monkeypatch.setattr(torch, "zeros", on_cpu)
    monkeypatch.setattr(torch, "full", lambda shape, value, **_: zeros(shape) + value)
    cache: Any = SimpleNamespace(max_sequences=4)
    StaticStep(lambda *_: (zeros(1), None), cache, device=torch.device("cuda"), dtype=torch.float32)
    assert [pin for device, pin in made if device == "None"] == [True]
    assert on_cpu_answer(torch.ones(1)) is False


def on_cpu_answer(tensor: Tensor) -> bool:
    """Where ``on_gpu`` looks."""
    return one_kernel.on_gpu(tensor)


SCENARIOS: tuple[Callable[[pytest.MonkeyPatch, Any], None], ...] = (
    back_ends, doctor, moves, evaluation, loader, groups, placement, kernels,
    fused_chains, prediction, memory, reduced_precision, graphs, pinned,
)  # fmt: skip
ELSEWHERE = {
    "generate/predictor.py": "tests/unit/generate/test_predictor.py halves a batch that does not fit",
    "generate/scheduler.py": "tests/unit/generate/test_scheduler.py reads prompts in halves",
    "train/error_translation.py": "tests/faults/test_training_faults.py runs out of memory",
}
"""Branches that a test of their own executes, because they need answers in the making."""


@pytest.mark.slow
@pytest.mark.usefixtures("card")
def test_every_branch_is_executed(model: Any) -> None:
    wanted = {
        (path, line): asked
        for path in sorted(SOURCE.rglob("*.py"))
        if path.relative_to(SOURCE).as_posix() not in ELSEWHERE
        for line, asked in branches(path)
    }
    assert len(wanted) > 8
    watching = coverage.Coverage(data_file=None, include=[f"{SOURCE}/*"], config_file=False)
    watching.start()
    try:
        for scenario in SCENARIOS:
            watching.switch_context(scenario.__name__)
            with pytest.MonkeyPatch.context() as patch:
                scenario(patch, model)
    finally:
        watching.stop()
    contexts = {str(path): watching.get_data().contexts_by_lineno(str(path)) for path, _ in wanted}
    missed = [
        f"{path.relative_to(SOURCE)}:{line} ({asked})"
        for (path, line), asked in wanted.items()
        if not [name for name in contexts[str(path)].get(line, []) if name]
    ]
    assert not missed, "\n".join(missed)


def test_a_branch_is_found(tmp_path: Path) -> None:
    source = "def f():\n    if not torch.cuda.is_available():\n        return 1\n    return 2\n"
    source += "if torch.cuda.device_count() > 1:\n    a\ntry:\n    b\nexcept torch.OutOfMemoryError:\n    c\n"
    (tmp_path / "one.py").write_text(source)
    assert {line for line, _ in branches(tmp_path / "one.py")} == {4, 6, 10}
    source = "def f(d, tensor):\n    cuda, x = torch.cuda.is_available(), 1\n    if cuda and x:\n        return 1\n"
    source += "    a = 1 if cuda else 2\n    if d.type == 'cuda':\n        a = 3\n    g(pin=d.type == 'cuda')\n"
    source += "    if d.type != 'cuda':\n        return 5\n    return 6 if not tensor.is_cuda else 7\n"
    (tmp_path / "two.py").write_text(source)
    assert {line for line, _ in branches(tmp_path / "two.py")} == {2, 4, 5, 7, 8, 11}
