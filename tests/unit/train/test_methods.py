"""Which weights move."""

from typing import Any

import pytest
import torch

from phisight.core.errors import SettingsError
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.methods import apply_method, count_parts

LORA = LoraSettings(rank=2)


def moved(model: Any, batch: Any) -> set[str]:
    """Names of parameters that a step of gradient descent changes."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model(**batch).loss.backward()
    trained = [value for value in model.parameters() if value.requires_grad]
    torch.optim.SGD(trained, lr=10.0).step()
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def counts(model: Any) -> dict[str, tuple[int, int]]:
    return {count.part: (count.trained, count.frozen) for count in count_parts(model)}


def test_the_table_adds_up(model: Any) -> None:
    table = counts(apply_method(model, TrainSettings(method="full"), LORA))
    assert sum(map(sum, table.values())) == sum(value.numel() for value in model.parameters())
    assert table["tower"][0] == 0
    assert all(table[part][1] == 0 for part in ("projector", "embeddings", "decoder", "head"))


def test_projector_moves_nothing_else(model: Any, batch: Any) -> None:
    names = moved(apply_method(model, TrainSettings(method="projector"), LORA), batch)
    assert names
    assert all("img_projection" in name or name.endswith(("sub_GN", "glb_GN")) for name in names)


def test_full_moves_the_tower_only_when_asked(model: Any, batch: Any) -> None:
    frozen = moved(apply_method(model, TrainSettings(method="full"), LORA), batch)
    assert not any("img_processor" in name for name in frozen)
    assert "model.embed_tokens.weight" in frozen
    assert "lm_head.weight" in frozen


def test_a_trained_tower_leaves_out_what_is_never_computed(model: Any, batch: Any) -> None:
    names = moved(apply_method(model, TrainSettings(method="full", train_tower=True), LORA), batch)
    last = model.config.vision_config.num_hidden_layers - 1
    assert any("img_processor" in name for name in names)
    assert not any(f"encoder.layers.{last}." in name or "post_layernorm" in name for name in names)
    assert counts(model)["tower"][1] > 0


def test_lora_moves_adapters_only(model: Any, batch: Any) -> None:
    wrapped = apply_method(model, TrainSettings(method="lora"), LORA)
    names = moved(wrapped, batch)
    assert names
    assert all("lora_" in name for name in names)
    for target in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj", "img_projection"):
        assert any(target in name for name in names), target
    assert not any("img_processor" in name for name in names)


def test_a_target_that_matches_nothing_is_an_error(model: Any) -> None:
    lora = LoraSettings(targets=["qkv_proj", "k_proj_typo"])
    with pytest.raises(SettingsError, match=r"names k_proj_typo, which no layer .* is called"):
        apply_method(model, TrainSettings(method="lora"), lora)
