"""Merged weights: the same as PEFT's, one tensor at a time, in the files that the base has."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from phisight.core.errors import CheckpointError
from phisight.export.merge import Adapters, merge_into, write_merged
from phisight.export.tensor_files import TensorSpec, specs_of, values_of, write_shard


class Net(nn.Module):
    """Two layers under names such as a model has."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.ModuleDict({"first": nn.Linear(12, 8, bias=False), "second": nn.Linear(8, 6, bias=False)})

    def forward(self, x: torch.Tensor) -> Any:
        return self.model["second"](self.model["first"](x))


def trained(folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """Adapters with values that matter, saved in PEFT's format; returns the base."""
    base = Net().to(dtype)
    wrapped: Any = get_peft_model(Net().to(dtype), LoraConfig(r=3, lora_alpha=5, target_modules=["first"], **settings))
    for name, value in wrapped.named_parameters():
        if "lora_" in name:
            value.data.add_(torch.randn_like(value), alpha=0.3)
    wrapped.save_pretrained(str(folder))
    return base


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}, {"alpha_pattern": {"first": 9}}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_peft_merges(settings: dict[str, Any], dtype: torch.dtype, tmp_path: Path) -> None:
    base = trained(tmp_path, dtype, **settings)
    expected: Any = PeftModel.from_pretrained(Net().to(dtype), str(tmp_path))
    expected = expected.merge_and_unload().state_dict()
    changed = base.model["first"].weight.detach().clone()
    merge_into(base, Adapters.read(tmp_path))
    assert not base.model["first"].weight.equal(changed)
    for name, value in base.state_dict().items():
        assert value.dtype == dtype
        close = 1e-6 if dtype == torch.float32 else 2**-8  # PEFT rounds the update before it adds it
        torch.testing.assert_close(value, expected[name], rtol=close, atol=close)


def test_files_and_memory_get_the_same_bits(tmp_path: Path) -> None:
    base = trained(tmp_path / "adapters", torch.bfloat16, use_dora=True)
    folder, out = tmp_path / "base", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    state = {name: value.contiguous() for name, value in base.state_dict().items()}
    first, second = dict(list(state.items())[:1]), dict(list(state.items())[1:])
    save_file(first, folder / "model-00001-of-00002.safetensors")
    save_file(second, folder / "model-00002-of-00002.safetensors")
    weight_map = dict.fromkeys(first, "model-00001-of-00002.safetensors")
    weight_map |= dict.fromkeys(second, "model-00002-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    adapters = Adapters.read(tmp_path / "adapters")
    write_merged(folder, [adapters], out)
    merge_into(base, adapters)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == weight_map
    assert index["metadata"]["total_size"] == sum(2 * value.numel() for value in state.values())
    written = {k: v for file in set(weight_map.values()) for k, v in load_file(out / file).items()}
    assert written.keys() == base.state_dict().keys()
    assert all(value.equal(base.state_dict()[name]) for name, value in written.items())


def test_adapters_that_do_not_fit(tmp_path: Path) -> None:
    trained(tmp_path)
    adapters = Adapters.read(tmp_path)
    other = nn.Module()
    other.model = nn.ModuleDict({"second": nn.Linear(8, 6, bias=False)})
    with pytest.raises(CheckpointError, match=r"1 adapters fit no layer.*first\.weight.*name the base"):
        merge_into(other, adapters)
    with pytest.raises(CheckpointError, match=r"made for a weight of \[8, 12\] but the base has \[8, 11\]"):
        adapters.merged("model.first.weight", torch.zeros(8, 11))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("peft_type", "IA3", "peft_type IA3"),
        ("bias", "all", "bias all"),
        ("modules_to_save", ["lm_head"], "modules_to_save"),
    ],
)
def test_other_kinds_are_refused(key: str, value: Any, told: str, tmp_path: Path) -> None:
    trained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=told):
        Adapters.read(tmp_path)


def test_a_tensor_of_another_kind_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({**load_file(path), "base_model.model.model.first.bias": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"cannot be merged: base_model\.model\.model\.first\.bias"):
        Adapters.read(tmp_path)


def test_broken_adapters_are_told_in_one_line(tmp_path: Path) -> None:
    trained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="cannot be read") as told:
        Adapters.read(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_a_file_holds_what_was_given(dtype: torch.dtype, tmp_path: Path) -> None:
    values = {
        "b": torch.arange(6).reshape(2, 3).T.to(dtype),
        "a": torch.tensor(1).to(dtype),
        "c": torch.zeros(0, 3).to(dtype),
    }
    specs = [TensorSpec(name, tuple(value.shape), value.dtype) for name, value in values.items()]
    write_shard(tmp_path / "x.safetensors", specs, values.items())
    assert all(value.equal(values[name]) for name, value in load_file(tmp_path / "x.safetensors").items())
    assert sorted(spec.name for spec in specs_of(tmp_path / "x.safetensors")) == ["a", "b", "c"]
    assert dict(values_of(tmp_path / "x.safetensors")).keys() == values.keys()


def test_values_are_cast_to_what_was_announced(tmp_path: Path) -> None:
    value = torch.randn(5, 7)
    write_shard(tmp_path / "x.safetensors", [TensorSpec("w", (5, 7), torch.bfloat16)], [("w", value)])
    assert load_file(tmp_path / "x.safetensors")["w"].equal(value.bfloat16())
