"""Stored hidden states: the same logits and curve as computed ones, bounded, never stale; weights below may leave."""

from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import FeatureCacheError
from phisight.core.recipe import recipe_from
from phisight.core.settings import LoraSettings, Recipe, TrainSettings
from phisight.model.attention import attend_by_sample
from phisight.model.tiny import tiny_config, tiny_model
from phisight.train.cache.hidden_states import TrunkCache, bytes_needed, fill, make_room, trunk_key, why_not_fixed
from phisight.train.cache.offload import offload_below, weights_below
from phisight.train.examples.collators import Collator, PackingCollator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method
from tests.helpers.short_fit import Recorder
from tests.helpers.training_examples import example_set

LAYERS, FIRST = 4, 2
SMALL = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 96}


@pytest.fixture
def deep(processor: Any) -> Any:
    return tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=LAYERS, **SMALL))


def top(method: str = "lora", **train: Any) -> Recipe:
    return recipe_from(
        {
            "train": {
                "method": method,
                "from_layer": FIRST,
                "steps": 50,
                "batch_size": 3,
                "learning_rate": 3e-3,
                "warmup": 0.0,
                "log_every": 1,
                **train,
            },
            "lora": {"rank": 2, "targets": ["qkv_proj", "down_proj"]},
        }
    )


def stored(shown: list[dict[str, Any]], processor: Any, model: Any, folder: Path) -> ExampleSet:
    examples = example_set(shown, processor)
    cache = TrunkCache(folder, trunk_key(model, FIRST, processor.image_processor, 4, bf16=False), FIRST)
    assert fill(cache, model, [examples]) == 6
    examples.trunk = cache
    return examples


def collated(examples: ExampleSet, processor: Any) -> dict[str, Any]:
    return Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(6)])


def test_logits_are_those_of_the_whole_model(
    shown: list[dict[str, Any]], processor: Any, deep: Any, tmp_path: Path
) -> None:
    computed = collated(example_set(shown, processor), processor)
    read = collated(stored(shown, processor, deep, tmp_path), processor)
    assert set(read) == {"input_ids", "attention_mask", "labels", "trunk_states", "first_layer"}
    ran: list[int] = []
    for number, layer in enumerate(deep.model.layers):
        layer.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    with torch.no_grad():
        expected = deep(**computed)
        ran.clear()
        outcome = deep(**read)
    assert ran == list(range(FIRST, LAYERS)), "only the upper layers run"
    real = computed["attention_mask"].bool()
    assert (~real).any(), "some rows are padded"
    torch.testing.assert_close(outcome.logits[real], expected.logits[real], rtol=0, atol=1e-5)
    torch.testing.assert_close(outcome.loss, expected.loss, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_curve_is_that_of_the_whole_model(
    method: Any, shown: list[dict[str, Any]], processor: Any, deep: Any, tmp_path: Path
) -> None:
    """Weights below rest in a file meanwhile, and are there again for saving."""
    settings, start = top(method), {name: value.clone() for name, value in deep.state_dict().items()}
    curves, models = [], []
    for name in ("computed", "stored"):
        torch.manual_seed(0)
        model = tiny_model(deep.config)
        model.load_state_dict(start)
        adapted: Any = apply_method(model, settings.train, settings.lora)
        assert why_not_fixed(adapted, FIRST) is None
        if name == "stored":
            examples = stored(shown, processor, adapted, tmp_path / "trunk")
            assert examples.trunk is not None
            assert offload_below(adapted, FIRST, examples.trunk)
        else:
            examples = example_set(shown, processor)
        recorder = Recorder()
        fit(adapted, processor, examples, None, settings, tmp_path / name, recorder)
        curves.append(torch.tensor(recorder.losses))
        models.append(adapted.merge_and_unload() if method == "lora" else adapted)
    drift = curves[0] - curves[1]
    assert len(drift) == 50
    assert curves[0][-1] < 0.95 * curves[0][0]
    assert drift.abs().max() < 1e-4
    assert drift.mean().abs() < 2e-5
    models[1].save_pretrained(tmp_path / "saved")
    again = type(deep).from_pretrained(tmp_path / "saved", dtype=torch.float32)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, models[0].state_dict()[name], rtol=0, atol=1e-4)
        if name in weights_below(deep, FIRST):
            assert torch.equal(value, start[name]), name


def test_weights_that_rest_are_mapped_and_answer_as_before(
    shown: list[dict[str, Any]], processor: Any, deep: Any, tmp_path: Path
) -> None:
    examples = stored(shown, processor, deep, tmp_path)
    assert examples.trunk is not None
    pixels = collated(example_set(shown, processor), processor)
    expected = deep(**pixels).logits
    inside = {name: one.data_ptr() for name, one in weights_below(deep, FIRST).items()}
    assert offload_below(deep, FIRST, examples.trunk)
    with torch.no_grad():
        deep(**collated(examples, processor))
    assert all(one.data_ptr() != inside[name] for name, one in weights_below(deep, FIRST).items())
    assert torch.equal(deep(**pixels).logits, expected), "a pass over images finds the same weights"


def test_another_trunk_has_another_key_and_the_upper_layers_do_not_matter(processor: Any, deep: Any) -> None:
    def key(first: int = FIRST, num_crops: int = 4, bf16: bool = False) -> str:
        return trunk_key(deep, first, processor.image_processor, num_crops, bf16=bf16)

    keys = [key(), key(first=1), key(num_crops=1), key(bf16=True)]
    with torch.no_grad():
        deep.model.layers[FIRST].mlp.down_proj.weight[0, 0] += 1
        deep.lm_head.weight[0, 0] += 1
        assert key() == keys[0]
        for weight in (deep.model.embed_tokens.weight, deep.model.layers[0].mlp.down_proj.weight):
            weight[0, 0] += 1
            keys.append(key())
    assert len(set(keys)) == len(keys)
    before = key()
    adapted = apply_method(deep, top().train, top().lora)
    assert trunk_key(adapted, FIRST, processor.image_processor, 4, bf16=False) == before


def test_another_text_or_image_has_another_name(shown: list[dict[str, Any]], processor: Any) -> None:
    names = example_set(shown, processor).names
    assert len(set(names)) == len(names)
    shown[0]["price"] = 11.0
    shown[1]["image_sha256"] = "f" * 64
    changed = example_set(shown, processor).names
    assert [one == other for one, other in zip(names, changed, strict=True)] == [False, False, True, True, True, True]


def test_a_damaged_file_is_named_and_computed_anew(
    shown: list[dict[str, Any]], processor: Any, deep: Any, tmp_path: Path
) -> None:
    examples = stored(shown, processor, deep, tmp_path)
    assert examples.trunk is not None
    examples.trunk.path(examples.names[2]).write_bytes(b"half a file")
    with pytest.raises(FeatureCacheError, match="recomputed"):
        examples[2]
    assert fill(examples.trunk, deep, [example_set(shown, processor)]) == 1
    assert len(examples[2]["input_ids"]) == len(examples[2]["trunk_states"])


def test_the_bound_holds_weights_and_states(
    shown: list[dict[str, Any]], processor: Any, deep: Any, tmp_path: Path
) -> None:
    examples = stored(shown, processor, deep, tmp_path)
    cache = examples.trunk
    assert cache is not None
    assert offload_below(deep, FIRST, cache)
    needed = bytes_needed(deep, FIRST, examples.lengths)
    held = sum(path.stat().st_size for path in cache.folder.iterdir())
    assert 0.98 * needed < held <= needed
    assert not make_room(cache, examples.names, needed, needed - 1)
    assert make_room(cache, examples.names[:3], needed, needed)
    assert {path.stem for path in cache.folder.iterdir()} == {*examples.names[:3], "weights"}


def test_what_changes_below_is_told(deep: Any) -> None:
    def reason(first: int = FIRST, **train: Any) -> str:
        settings = TrainSettings(**{"method": "full", "from_layer": first, **train})
        return why_not_fixed(apply_method(deep, settings, LoraSettings()), FIRST) or ""

    assert reason() == ""
    assert "below layer 2 train, such as" in reason(first=1)
    deep.config.resid_pdrop = 0.1
    assert "resid_pdrop" in reason()


def test_stored_states_pack(shown: list[dict[str, Any]], processor: Any, deep: Any, tmp_path: Path) -> None:
    padded = collated(example_set(shown, processor), processor)
    examples = stored(shown, processor, deep, tmp_path)
    packed = PackingCollator()([examples[index] for index in range(6)])
    assert packed["trunk_states"].shape[:2] == packed["input_ids"].shape == packed["position_ids"].shape
    attend_by_sample(deep)
    with torch.no_grad():
        expected = deep(**padded).logits[padded["attention_mask"].bool()]
        torch.testing.assert_close(deep(**packed).logits[0], expected, rtol=0, atol=1e-5)
