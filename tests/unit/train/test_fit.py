"""The loop: it learns, it keeps the best, it stops at a loss that is no number, and batch shapes do not matter."""

from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import NonFiniteLossError
from phisight.core.settings import TrainSettings
from phisight.train.examples.dataset import ExampleSet
from phisight.train.loader import planned_steps
from tests.helpers.short_fit import run
from tests.helpers.training_examples import TASK, noise_image


def test_the_loss_falls(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    _, recorder = run(model, processor, examples, tmp_path)
    assert recorder.planned == 8
    assert recorder.steps == list(range(1, 9))
    assert recorder.losses[-1] < 0.8 * recorder.losses[0]


def long_and_short(rows: list[dict[str, Any]], processor: Any) -> ExampleSet:
    """16 examples, two steps of eight an epoch; the longest answer holds many times the tokens of the shortest."""
    more = [{**rows[number % 6], "title": "Thing" + " very long" * number, "seed": number} for number in range(16)]
    return ExampleSet(more, lambda row: noise_image(row["seed"]), processor, TASK)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 2), (2, 4), (1, 8)])
def test_micro_batches_give_the_curve_of_one_batch(
    batch_size: int, accumulate: int, model: Any, processor: Any, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The loss is divided by the trained tokens of the whole step, so long answers weigh the same in any batch."""
    examples = long_and_short(rows, processor)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    _, whole = run(model, processor, examples, tmp_path / "whole", steps=6, batch_size=8)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(start)
    _, parts = run(
        model, processor, examples, tmp_path / "parts", steps=6, batch_size=batch_size, accumulate=accumulate
    )
    drift = torch.tensor(parts.losses, dtype=torch.float64) - torch.tensor(whole.losses, dtype=torch.float64)
    of_weights = torch.cat([(value - expected[name]).double().flatten() for name, value in model.state_dict().items()])
    assert drift.abs().max() < 1e-5
    assert drift.mean().abs() < 2e-6
    assert of_weights.abs().max() < 2e-4
    assert of_weights.mean().abs() < 1e-9


def test_the_same_seed_gives_the_same_weights(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    run(model, processor, examples, tmp_path / "one", steps=3, batch_size=2)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(start)
    run(model, processor, examples, tmp_path / "two", steps=3, batch_size=2)
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())


def test_checkpointing_changes_nothing(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    _, off = run(model, processor, examples, tmp_path / "off", steps=3)
    model.load_state_dict(start)
    _, on = run(model, processor, examples, tmp_path / "on", steps=3, gradient_checkpointing=True)
    torch.testing.assert_close(off.losses, on.losses, rtol=1e-6, atol=1e-6)


def test_lora_learns(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    _, recorder = run(model, processor, examples, tmp_path, method="lora", train_tower=False, learning_rate=2e-2)
    assert recorder.losses[-1] < recorder.losses[0]


def test_a_loss_that_is_no_number_stops_the_run(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path
) -> None:
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="the loss is nan at step 1"):
        run(model, processor, examples, tmp_path)


@pytest.mark.parametrize(("train", "steps"), [({"steps": 7}, 7), ({"steps": None, "epochs": 2.0, "batch_size": 4}, 4)])
def test_steps_planned(train: dict[str, Any], steps: int, examples: ExampleSet) -> None:
    assert planned_steps(len(examples), TrainSettings(**train)) == steps
