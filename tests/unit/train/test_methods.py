"""Which weights move."""

from typing import Any

import pytest
import torch

from phisight.core.errors import SettingsError
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.trainable.methods import apply_method
from phisight.train.trainable.module_groups import count_parts

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
    with pytest.raises(SettingsError, match=r"names k_proj_typo, which match no layer"):
        apply_method(model, TrainSettings(method="lora"), lora)


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_what_comes_before_the_first_layer_stays(model: Any, batch: Any, method: str) -> None:
    names = moved(apply_method(model, TrainSettings(method=method, from_layer=1), LORA), batch)
    assert any("layers.1." in name for name in names)
    assert not any("layers.0." in name or "embed_tokens" in name for name in names)
    assert ("lm_head.weight" in names) == (method == "full")
    table = counts(model)
    assert [table[part][0] for part in ("tower", "projector", "embeddings")] == [0, 0, 0]


def test_a_first_layer_that_is_not_there(model: Any) -> None:
    with pytest.raises(SettingsError, match=r"from_layer is 2, but the decoder has 2 layers, 0 to 1"):
        apply_method(model, TrainSettings(from_layer=2), LORA)


@pytest.mark.parametrize("more", [{"train_tower": True}, {"method": "projector"}])
def test_a_first_layer_contradicts_what_comes_before_it(model: Any, more: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"from_layer 1 freezes all that comes before"):
        apply_method(model, TrainSettings(from_layer=1, **more), LORA)


def test_targets_that_are_all_frozen(model: Any) -> None:
    with pytest.raises(SettingsError, match="nothing would train"):
        apply_method(model, TrainSettings(from_layer=1), LoraSettings(targets=["img_projection"]))


def test_dora_has_magnitudes_and_starts_as_the_model(model: Any, batch: Any) -> None:
    with torch.no_grad():
        before = float(model(**batch).loss)
    wrapped = apply_method(model, TrainSettings(method="dora"), LORA)
    with torch.no_grad():
        assert float(wrapped(**batch).loss) == pytest.approx(before, abs=1e-5)
    names = moved(wrapped, batch)
    assert any("lora_magnitude_vector" in name for name in names)
    assert all("lora_" in name for name in names)


def unchanged_share(model: Any, batch: Any) -> float:
    """Share of the values with a gradient that a step of AdamW with a learning rate of 1e-5 leaves as they are."""
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch, skip_logits=True).loss.backward()
    trained = [value for value in model.parameters() if value.grad is not None]
    before = [value.detach().clone() for value in trained]
    torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0).step()
    has_gradient = torch.cat([(value.grad != 0).flatten() for value in trained])
    same = torch.cat([(value == old).flatten() for value, old in zip(trained, before, strict=True)])
    return float((same & has_gradient).sum() / has_gradient.sum())


@pytest.mark.parametrize("method", ["full", "projector", "lora"])
def test_small_steps_are_not_lost_in_bfloat16(model: Any, batch: Any, method: str) -> None:
    wrapped = apply_method(model.to(torch.bfloat16), TrainSettings(method=method, bf16=True), LORA)
    assert unchanged_share(wrapped, batch) < 0.02


def test_in_bfloat16_weights_small_steps_would_be_lost(model: Any, batch: Any) -> None:
    """What the test above measures is there to be seen: without float32 weights, most values do not change."""
    assert unchanged_share(model.to(torch.bfloat16), batch) > 0.5
