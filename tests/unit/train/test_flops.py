"""FLOPs by part against the products that torch counts in a real step."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from phisight.core.settings import LoraSettings, TrainSettings
from phisight.model.loss import IGNORED
from phisight.train.estimate.flops import ExampleSize, example_flops, layer_shapes
from phisight.train.trainable.methods import apply_method

TEXT = 40
TRAINED = 12


def batch_of(model: Any) -> tuple[dict[str, Any], ExampleSize]:
    """One image of 2 x 1 tiles with some text behind it."""
    config = model.config
    side, embedding = config.crop_size, model.model.vision_embed_tokens
    sizes = torch.tensor([[side, 2 * side]])
    (tokens,) = embedding.token_counts(sizes)
    ids = torch.cat([torch.full((tokens,), config.image_token_id), torch.full((TEXT,), 20)])[None]
    labels = ids.clone()
    labels[:, :-TRAINED] = IGNORED
    batch = {
        "input_ids": ids,
        "labels": labels,
        "pixel_values": torch.randn(1, 3, 3, side, side),
        "image_sizes": sizes,
        "skip_logits": True,
    }
    return batch, ExampleSize(ids.shape[1], tokens, 3, TRAINED)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full", "train_tower": True},
        {"method": "full"},
        {"method": "lora"},
        {"method": "lora", "from_layer": 1},
        {"method": "projector"},
    ],
    ids=str,
)
def test_flops_are_those_of_a_step(model: Any, settings: dict[str, Any]) -> None:
    """Within 5 %: torch counts attention as if it were not causal, which is set right, and no elementwise work."""
    train, lora = TrainSettings.model_validate(settings), LoraSettings(rank=4)
    trained = apply_method(model, train, lora)
    trained.train()
    model.config._attn_implementation = model.config.vision_config._attn_implementation = "eager"  # counted on a CPU
    batch, size = batch_of(model)
    with FlopCounterMode(display=False) as counter:
        trained(**batch).loss.backward()
    found = example_flops(model.config, size, train, lora)
    causal = found.decoder.forward - _linear(model.config, size.tokens)
    share = 3 * (model.config.num_hidden_layers - train.from_layer) + train.from_layer
    attention = causal * share / model.config.num_hidden_layers
    assert counter.get_total_flops() == pytest.approx(found.total + attention, rel=0.05)


def _linear(config: Any, tokens: int) -> float:
    return int(config.num_hidden_layers) * sum(2.0 * tokens * a * b for a, b in layer_shapes(config).values())


def test_what_a_cache_holds_is_not_counted(model: Any) -> None:
    _, size = batch_of(model)
    train, lora = TrainSettings(method="lora", from_layer=1), LoraSettings()
    computed, features, states = (
        example_flops(model.config, size, train, lora, cached) for cached in ("nothing", "features", "hidden states")
    )
    assert computed.tower.forward > 0
    assert features.tower.forward == 0
    assert features.total == computed.total - computed.tower.forward
    assert states.projector.forward == 0
    layers = model.config.num_hidden_layers
    assert states.decoder.forward == pytest.approx(computed.decoder.forward * (layers - 1) / layers)
    assert states.decoder.backward == computed.decoder.backward


def test_recomputation_is_told_apart(model: Any) -> None:
    _, size = batch_of(model)
    plain, checkpointed = (
        example_flops(model.config, size, TrainSettings(method="full", gradient_checkpointing=wanted), LoraSettings())
        for wanted in (False, True)
    )
    assert checkpointed.total == plain.total == plain.executed
    assert checkpointed.executed == plain.executed + plain.decoder.forward
