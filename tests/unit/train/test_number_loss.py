"""What numbers are learned from: weights of digits, numbers for the head; and the head through the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import SettingsError
from phisight.core.recipe import recipe_from
from phisight.core.settings import LoraSettings
from phisight.core.task import Task
from phisight.model.loss import IGNORED, weighted_loss
from phisight.model.number_head import NUMBER_HEAD, head_of, load_number_head
from phisight.train.checkpoint.best_model import save_best
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.number_targets import FIRST_DIGIT, NumberTargets, digit_weights, number_targets
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method
from tests.helpers.short_fit import Recorder


def example(examples: ExampleSet, processor: Any, numbers: Any, index: int = 3) -> Any:
    examples.targets = NumberTargets(numbers, examples.task, processor.tokenizer)
    return examples[index]


def test_digits_weigh_less_the_further_back() -> None:
    weights = digit_weights(b" 470.0, and more")
    assert weights[0] == weights[4] == 1.0
    assert weights[1] == FIRST_DIGIT
    assert weights[1] > weights[2] > weights[3] > weights[5] > 1.0
    assert len(weights) == len(b" 470.0")


def test_weights_stand_at_the_digits_and_keep_the_step_s_size(examples: ExampleSet, processor: Any) -> None:
    one = example(examples, processor, "digit_weighted")
    trained = one["labels"] != IGNORED
    weights = one["label_weights"]
    assert weights[~trained].abs().sum() == 0
    assert weights[trained].mean().item() == pytest.approx(1.0, rel=1e-6)
    rest = weights[trained].min()
    heavy = [processor.tokenizer.decode([token]) for token in one["labels"][trained & (weights > 1.01 * rest)]]
    assert "".join(heavy) == "130", "the digits of 13.0 and nothing else"
    assert weights.max() / rest == pytest.approx(FIRST_DIGIT)


def test_weights_that_are_not_normalized_change_the_step_s_loss(examples: ExampleSet, processor: Any) -> None:
    one = example(examples, processor, "digit_weighted")
    trained = one["labels"] != IGNORED
    targets, logits = one["labels"][trained], torch.zeros(int(trained.sum()), 500)
    plain = torch.nn.functional.cross_entropy(logits, targets)
    weights = one["label_weights"][trained]
    torch.testing.assert_close(weighted_loss(logits, targets, weights, None), plain)
    assert weighted_loss(logits, targets, weights / weights.min(), None) > 1.2 * plain


def test_weights_of_one_are_the_plain_loss(model: Any, batch: dict[str, torch.Tensor]) -> None:
    ones = torch.ones_like(batch["labels"], dtype=torch.float32)
    plain = model(**batch, skip_logits=True).loss
    torch.testing.assert_close(model(**batch, skip_logits=True, label_weights=ones).loss, plain)
    half = model(**batch, skip_logits=True, label_weights=ones * 0.5, num_items_in_batch=7).loss
    whole = model(**batch, skip_logits=True, num_items_in_batch=7).loss
    torch.testing.assert_close(half * 2, whole)


def test_the_head_s_number_stands_before_its_first_digit(examples: ExampleSet, processor: Any) -> None:
    one = example(examples, processor, "head")
    held = (~one["numbers"].isnan()).nonzero().flatten().tolist()
    assert len(held) == 1
    assert one["numbers"][held[0]] == 13.0
    assert processor.tokenizer.decode([one["input_ids"][held[0] + 1]]) == "1"
    before = processor.tokenizer.decode(one["input_ids"][: held[0] + 1])
    assert before.rstrip().endswith("Price:")


def test_stored_hidden_states_carry_them_too(examples: ExampleSet, processor: Any) -> None:
    class Stored:
        first_layer = 1

        def read(self, _name: str) -> torch.Tensor:
            return torch.zeros(1)

    examples.targets = NumberTargets("head", examples.task, processor.tokenizer)
    examples.trunk = Stored()  # type: ignore[assignment]
    assert (~examples[2]["numbers"].isnan()).sum() == 1


def test_a_batch_pads_them(examples: ExampleSet, processor: Any) -> None:
    collate = Collator(processor.tokenizer.pad_token_id)
    for numbers, name, filled in (("digit_weighted", "label_weights", 0.0), ("head", "numbers", torch.nan)):
        some = [example(examples, processor, numbers, index) for index in (0, 5)]
        batch = collate(some)
        assert batch[name].shape == batch["labels"].shape
        padding = batch[name][0, len(some[0]["labels"]) :]
        assert torch.equal(padding, torch.full_like(padding, filled)) or padding.isnan().all()
    examples.targets = None


def test_text_and_expected_carry_nothing(examples: ExampleSet, processor: Any) -> None:
    for numbers in ("text", "expected"):
        assert not {"numbers", "label_weights"} & example(examples, processor, numbers).keys()


def test_a_tokenizer_that_changes_texts_is_named(examples: ExampleSet, processor: Any) -> None:
    targets = NumberTargets("head", examples.task, processor.tokenizer)
    targets._bytes = {token: piece.lower() for token, piece in targets._bytes.items()}
    with pytest.raises(SettingsError, match="this tokenizer does not reproduce texts"):
        targets(examples.rows[0], examples[0]["labels"])


def test_a_task_without_a_number_gets_no_head(model: Any, processor: Any) -> None:
    task = Task(answer="It is {title}", fields={"title": "text"})
    targets = number_targets("head", model, processor, task, [{"title": "a"}])
    assert head_of(model) is None
    assert targets({"title": "a"}, torch.tensor([IGNORED, 1])) == {}


def test_a_head_of_an_earlier_training_goes_when_another_way_is_chosen(
    model: Any, processor: Any, examples: ExampleSet
) -> None:
    number_targets("head", model, processor, examples.task, examples.rows)
    assert head_of(model) is not None
    number_targets("text", model, processor, examples.task, examples.rows)
    assert head_of(model) is None


def run(
    model: Any, processor: Any, examples: ExampleSet, folder: Path, numbers: str, **train: Any
) -> tuple[Any, list[float]]:
    values = {
        "method": "full",
        "train_tower": True,
        "steps": 12,
        "batch_size": 6,
        "learning_rate": 3e-3,
        "log_every": 1,
    }
    recipe = recipe_from({"train": {**values, "warmup": 0.0, "numbers": numbers, **train}})
    model = apply_method(model, recipe.train, LoraSettings(rank=2))
    targets = number_targets(recipe.train.numbers, model, processor, examples.task, examples.rows)
    examples.targets = targets
    quiet = Recorder()
    fit(model, processor, examples, examples, recipe, folder, quiet)
    return model, quiet.losses


@pytest.mark.slow
def test_micro_batches_with_a_head_or_weights_give_the_curve_of_one_batch(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path
) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for numbers in ("head", "digit_weighted"):
        model.number_head = None
        model.load_state_dict(start)
        torch.manual_seed(1)
        _, whole = run(model, processor, examples, tmp_path / numbers / "whole", numbers, steps=3)
        model.number_head = None
        model.load_state_dict(start)
        torch.manual_seed(1)
        options = {"steps": 3, "batch_size": 2, "accumulate": 3}
        _, parts = run(model, processor, examples, tmp_path / numbers / "parts", numbers, **options)
        torch.testing.assert_close(torch.tensor(whole), torch.tensor(parts), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["full", "lora", "projector"])
def test_the_best_checkpoint_s_head_is_the_one_that_is_kept(
    method: str, model: Any, processor: Any, examples: ExampleSet, tmp_path: Path
) -> None:
    """The learning rate is so high that the first evaluation is the best: its head has to come back."""
    options = {"steps": 4, "evaluate_every": 2, "save_every": 2, "train_tower": False, "learning_rate": 5e-2}
    trained, _ = run(model, processor, examples, tmp_path, "head", method=method, **options)
    head = head_of(trained)
    assert head is not None
    stored = {path.parent.name: load_number_head(path.parent) for path in tmp_path.rglob(NUMBER_HEAD)}
    equal = [name for name, one in stored.items() if one and torch.equal(one.inner.weight, head.inner.weight)]
    assert len(stored) == 2
    assert len(equal) == 1
    save_best(trained, processor, tmp_path / "best", whole=False)
    again = load_number_head(tmp_path / "best")
    assert again is not None
    assert torch.equal(again.outer.weight, head.outer.weight)


@pytest.mark.slow
def test_the_head_learns(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    trained, losses = run(model, processor, examples, tmp_path, "head", steps=30)
    assert losses[-1] < 0.5 * losses[0]
    head = head_of(trained)
    assert head is not None
    batch = Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(6)])
    with torch.no_grad():
        trained.eval()
        hidden = trained.model(
            **{name: value for name, value in batch.items() if name not in ("labels", "numbers")}
        ).last_hidden_state
        found = head.numbers(hidden[~batch["numbers"].isnan()], [0] * 6)
    truth = torch.tensor([10.0 + number for number in range(6)], dtype=torch.float64)
    assert (found - truth).abs().mean() < 1.0, "the training rows' own numbers, learned by heart"
