"""What only a GPU brings about, executed on a CPU: kernels by their reference, CUDA's answers by stand-ins.

``test_every_branch_is_executed`` finds the branches in the source and shows by coverage which scenario ran each.
"""

import ast
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coverage
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from phisight.core.settings import ModelSettings, Recipe, TrainSettings
from phisight.model.attention import attend_by_sample, require_backend
from phisight.train.acceleration import fused_linear, one_kernel, rms_norm, rotary_attention
from phisight.train.acceleration.liger import use_liger
from phisight.train.acceleration.patch import fuse_for_prediction, fused_layers, fuses
from phisight.train.acceleration.product_types import ProductTypes
from phisight.train.distributed import process_group
from phisight.train.distributed.placement import Placement
from phisight.train.evaluation import preserved_state
from phisight.train.examples.collators import PackingCollator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.loader import evaluation_loader
from phisight.workflows import load
from phisight.workflows.doctor import examine

SOURCE = Path(load.__file__).parents[1]
ASKS = ("torch.cuda.is_available", "torch.cuda.device_count", "cuda.is_bf16_supported", "on_gpu(", "OutOfMemoryError")
"""What a branch asks that is for a GPU alone, or the error that its memory raises."""


class VarlenKernel:
    """The kernel's reference: checks a call as the kernel would, and attends sample by sample."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int,
        max_seqlen_k: int, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
        **_: Any,
    ) -> Tensor:  # fmt: skip
        assert q.dim() == k.dim() == v.dim() == 3, "[tokens, heads, width]"
        assert {one.dtype for one in (q, k, v)} == {torch.bfloat16}, "the kernel knows half precision only"
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        ends = cu_seqlens_q.tolist()
        lengths = [after - before for before, after in pairwise(ends)]
        assert ends[0] == 0
        assert ends[-1] == len(q)
        assert max(lengths) == max_seqlen_q == max_seqlen_k
        assert causal
        assert dropout_p == 0.0
        self.calls.append(lengths)
        samples = zip(*(torch.split(one, lengths) for one in (q, k, v)), strict=True)
        attend: Any = nn.functional.scaled_dot_product_attention
        out = [attend(*(x.transpose(0, 1) for x in one), is_causal=True, scale=softmax_scale) for one in samples]
        return torch.cat([one.transpose(0, 1) for one in out])


def whole_images(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False
) -> Tensor:
    """The kernel for rows of one length, [B, T, N, H]: the tower's, whose patches all see each other."""
    assert {one.dtype for one in (q, k, v)} == {torch.bfloat16}
    assert not causal, "a packed row goes to the varlen kernel"
    assert dropout_p == 0.0
    turned = [one.transpose(1, 2) for one in (q, k, v)]
    out = nn.functional.scaled_dot_product_attention(turned[0], turned[1], turned[2], scale=softmax_scale)
    return out.transpose(1, 2)


@pytest.fixture
def varlen(monkeypatch: pytest.MonkeyPatch) -> VarlenKernel:
    kernel = VarlenKernel()
    planted: Any = types.ModuleType("flash_attn_interface")
    planted.flash_attn_varlen_func, planted.flash_attn_func = kernel, whole_images
    planted.flash_attn_with_kvcache = lambda *_, **__: pytest.fail("training keeps no cache")
    monkeypatch.setitem(sys.modules, "flash_attn_interface", planted)
    return kernel


def loss_of(model: Any, batch: dict[str, Any], attention: str) -> tuple[float, Tensor]:
    model.zero_grad()
    model.config._attn_implementation = model.model.config._attn_implementation = attention
    attend_by_sample(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    return float(loss.detach()), model.model.layers[0].self_attn.qkv_proj.weight.grad.clone()


def test_a_packed_row_reaches_the_kernel_with_its_lengths(
    model: Any, examples: ExampleSet, varlen: VarlenKernel
) -> None:
    batch = PackingCollator()([examples[index] for index in range(4)])
    expected, gradient = loss_of(model, batch, "sdpa")
    loss, found = loss_of(model, batch, "flash_attention_3")
    assert varlen.calls == [list(batch["sample_lengths"])] * len(model.model.layers)
    assert loss == pytest.approx(expected, rel=2e-3)
    torch.testing.assert_close(found, gradient, rtol=0.05, atol=0.02 * float(gradient.abs().max()))


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


def memory(_: pytest.MonkeyPatch, __: Any) -> None:
    """A card that is too small is no missing model."""
    with pytest.raises(torch.OutOfMemoryError), load.loading("folder"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def reduced_precision(_: pytest.MonkeyPatch, __: Any) -> None:
    found = ProductTypes()
    found.add("layer", torch.zeros(2, 3), torch.zeros(4, 2))
    assert "partial sums may be added in bfloat16" in found.describe(torch.device("cuda"))


SCENARIOS: tuple[Callable[[pytest.MonkeyPatch, Any], None], ...] = (
    back_ends, doctor, moves, evaluation, loader, groups, placement, kernels,
    fused_chains, prediction, memory, reduced_precision,
)  # fmt: skip
ELSEWHERE = {
    "generate/predictor.py": "tests/unit/generate/test_predictor.py halves a batch that does not fit",
    "generate/scheduler.py": "tests/unit/generate/test_scheduler.py reads prompts in halves",
    "train/error_translation.py": "tests/faults/test_training_faults.py runs out of memory",
}
"""Branches that a test of their own executes, because they need answers in the making."""


def branches(path: Path) -> Iterator[tuple[int, str]]:
    """First line of each statement that only a GPU leads to, and what asks for it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]
        for at, statement in enumerate(body):
            if isinstance(statement, ast.If) and any(ask in ast.unparse(statement.test) for ask in ASKS):
                asked = ast.unparse(statement.test)
                negative = "not torch.cuda" in asked or "not on_gpu" in asked
                after = [*statement.orelse, *body[at + 1 :]] if negative else statement.body
                yield from ((one.lineno, asked) for one in after[:1])
        if isinstance(node, ast.ExceptHandler) and node.type and "OutOfMemoryError" in ast.unparse(node.type):
            yield node.body[0].lineno, ast.unparse(node.type)


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
    assert sorted(line for line, _ in branches(tmp_path / "one.py")) == [4, 6, 10]
