"""Compiling, kernels, back ends, checkpointing: the same curve by other means, or an error that says why not."""

import copy
import importlib.util
import inspect
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import modeling_flash_attention_utils

from phisight.core.errors import SettingsError
from phisight.core.settings import LoraSettings
from phisight.model.attention import PACKAGES, require_backend
from phisight.train.acceleration import compile
from phisight.train.acceleration.liger import use_liger
from phisight.train.examples.dataset import ExampleSet
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method
from tests.helpers.short_fit import Recorder, recipe, run
from tests.helpers.training_examples import TASK, noise_image


def curve(model: Any, processor: Any, examples: ExampleSet, folder: Path, **train: Any) -> list[float]:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    _, recorder = run(model, processor, examples, folder, steps=4, batch_size=3, **train)
    model.load_state_dict(start)
    return recorder.losses


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile's own looking around
def test_compiled_layers_give_the_same_curve(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    plain = curve(model, processor, examples, tmp_path / "plain")
    monkeypatch.setattr(compile, "BACKEND", backend)
    assert curve(model, processor, examples, tmp_path / "compiled", compile=True) == pytest.approx(plain, abs=1e-5)
    assert 0 < len(compiled) <= 8, "layers of a kind share a graph"
    assert all("forward" not in vars(layer) for layer in model.model.layers), "compiled after the run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "train"),
    [
        ("full", {}),
        ("lora", {}),
        ("dora", {}),
        ("projector", {}),
        ("lora", {"from_layer": 1}),
        ("full", {"bf16": True}),
    ],
)
def test_recomputing_activations_changes_no_method(
    method: Any, train: dict[str, Any], model: Any, processor: Any, examples: ExampleSet, tmp_path: Path
) -> None:
    """Frozen embeddings need no special care: recomputation works without a gradient of the layers' inputs."""
    settings = {"method": method, "train_tower": False, "steps": 3, "batch_size": 3, **train}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    curves = []
    for recomputing in (False, True):
        torch.manual_seed(0)
        wanted = recipe(**settings, gradient_checkpointing=recomputing)
        adapted = apply_method(model, wanted.train, LoraSettings(rank=2, dropout=0.1))
        recorder = Recorder()
        fit(adapted, processor, examples, None, wanted, tmp_path / str(recomputing), recorder)
        model = adapted.unload() if hasattr(adapted, "unload") else adapted  # type: ignore[operator]
        model.load_state_dict(start)
        curves.append(recorder.losses)
    assert len(curves[0]) == 3
    torch.testing.assert_close(*curves, rtol=1e-6, atol=1e-6)


def test_bfloat16_learns_on_a_cpu(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    another = copy.deepcopy(model)  # the library keeps the type of a model's first run
    plain = curve(model, processor, examples, tmp_path / "float32")
    rounded = curve(another, processor, examples, tmp_path / "bf16", bf16=True)
    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("name", ["flash_attention_2", "flex_attention"])
def test_a_back_end_that_this_machine_lacks_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=f"model.attention {name} .*set model.attention to sdpa"):
        require_backend(name)
    require_backend("sdpa")
    require_backend("eager")


def test_flash_attention_is_looked_for_where_the_library_imports_it() -> None:
    source = inspect.getsource(modeling_flash_attention_utils)
    for module, _ in PACKAGES.values():
        assert f"from {module} import flash_attn_func" in source


@pytest.mark.parametrize(
    ("name", "package"), [("flash_attention_2", "flash-attn"), ("flash_attention_3", "flash-attn-3")]
)
def test_a_missing_flash_attention_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=f"needs the package {package}, which is not installed"):
        require_backend(name)
    require_backend("flex_attention")


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None,
    reason="needs a CUDA device and the extra liger",
)
def test_liger_s_kernels_give_the_same_loss(model: Any, batch: Any) -> None:
    model = apply_method(model, recipe(method="lora", train_tower=False).train, LoraSettings(rank=2)).cuda()
    batch = {name: value.cuda() for name, value in batch.items()}
    plain = float(model(**batch).loss)
    use_liger(model)
    layer = model.get_base_model().model.layers[0]
    assert "liger" in f"{type(layer.mlp).__module__} {layer.mlp.forward.__module__}".lower()
    assert float(model(**batch).loss) == pytest.approx(plain, abs=1e-4)


def test_liger_without_package_or_gpu_is_told(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"train\.liger needs the package liger-kernel"):
        run(model, processor, examples, tmp_path, liger=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"train\.liger needs a GPU"):
        use_liger(model)


@pytest.mark.parametrize(("kept", "times"), [(0, 2), (10**9, 1)])
def test_a_image_is_opened_once_an_epoch_or_once(
    kept: int, times: int, rows: list[dict[str, Any]], processor: Any, model: Any, tmp_path: Path
) -> None:
    opened: Counter[int] = Counter()

    def load(row: Mapping[str, Any]) -> Any:
        opened[row["seed"]] += 1
        return noise_image(row["seed"])

    examples = ExampleSet(rows, load, processor, TASK, keep_bytes=kept)
    _, recorder = run(model, processor, examples, tmp_path, steps=None, epochs=2, batch_size=2)
    assert opened == dict.fromkeys(range(6), times)
    assert len(recorder.data_wait) == 6
    assert all(0 < share < 1 for share in recorder.data_wait)
