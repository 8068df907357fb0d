"""Learning rates by part; decay on matrices only."""

from typing import Any

import pytest
import torch

from phisight.core.settings import LoraSettings, TrainSettings
from phisight.model.number_head import NumberHead, attach_head
from phisight.train.trainable.methods import apply_method
from phisight.train.trainable.param_groups import HEAD_STEP, parameter_groups

SETTINGS = TrainSettings(
    method="full",
    train_tower=True,
    learning_rate=1e-3,
    tower_learning_rate=1e-5,
    projector_learning_rate=1e-4,
    weight_decay=0.1,
)


def by_name(model: Any, settings: TrainSettings, decayed: Any = None) -> dict[str, tuple[float, float]]:
    names = {id(value): name for name, value in model.named_parameters()}
    groups = parameter_groups(model, settings, names.values() if decayed is None else decayed)
    return {names[id(one)]: (group["lr"], group["weight_decay"]) for group in groups for one in group["params"]}


def test_each_part_has_its_rate(model: Any) -> None:
    found = by_name(apply_method(model, SETTINGS, LoraSettings()), SETTINGS)
    assert found["model.vision_embed_tokens.img_processor.vision_model.encoder.layers.0.mlp.fc1.weight"] == (1e-5, 0.1)
    assert found["model.vision_embed_tokens.img_projection.0.weight"] == (1e-4, 0.1)
    assert found["model.layers.0.mlp.down_proj.weight"] == (1e-3, 0.1)
    assert found["lm_head.weight"] == (1e-3, 0.1)


@pytest.mark.parametrize("rate", [1e-5, 1e-2])
def test_a_number_head_learns_from_nothing(model: Any, rate: float) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": rate})
    attach_head(model, NumberHead.fit(model.config.hidden_size, {"price": [10.0, 20.0]}))
    found = by_name(apply_method(model, settings, LoraSettings()), settings)
    rates = {given for name, (given, _) in found.items() if "number_head" in name}
    assert rates == {max(rate, HEAD_STEP / model.config.hidden_size)}


def test_every_trained_parameter_is_in_one_group(model: Any) -> None:
    model = apply_method(model, SETTINGS, LoraSettings())
    groups = parameter_groups(model, SETTINGS, [])
    placed = [id(one) for group in groups for one in group["params"]]
    assert sorted(placed) == sorted(id(one) for one in model.parameters() if one.requires_grad)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.vision_embed_tokens.sub_GN"])
def test_vectors_do_not_decay(model: Any, name: str) -> None:
    found = by_name(apply_method(model, SETTINGS, LoraSettings()), SETTINGS)
    assert found[name][1] == 0.0


def test_what_is_not_named_does_not_decay(model: Any) -> None:
    assert {decay for _, decay in by_name(apply_method(model, SETTINGS, LoraSettings()), SETTINGS, []).values()} == {
        0.0
    }


def test_adapters_go_with_their_part(model: Any) -> None:
    settings = SETTINGS.model_copy(update={"method": "lora", "train_tower": False})
    rates = {name: rate for name, (rate, _) in by_name(apply_method(model, settings, LoraSettings()), settings).items()}
    assert {rate for name, rate in rates.items() if "img_projection" in name} == {1e-4}
    assert {rate for name, rate in rates.items() if ".layers." in name} == {1e-3}
    assert torch.tensor(list(rates.values())).min() == pytest.approx(1e-4)
