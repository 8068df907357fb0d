"""Batches of like length: little padding, every example once, the same order for the same seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phisight.core.geometry import image_tokens
from phisight.core.recipe import recipe_from
from phisight.core.seeding import named_seed
from phisight.core.settings import LoraSettings
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.sampler import LengthSampler, epoch_order, padding_share, smallest_pool
from phisight.train.loader import StepLoader
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method
from tests.helpers.noted_calls import noted_calls
from tests.helpers.short_fit import Recorder


def mixed_lengths(count: int = 700) -> np.ndarray:
    """Lengths as images of every shape give them at four crops, with answers of 20 to 60 tokens."""
    generator = np.random.default_rng(1)
    shapes = generator.integers(200, 2000, (count, 2))
    answers = generator.integers(20, 60, count)
    return np.array([image_tokens(int(width), int(height), 4) for width, height in shapes]) + answers


def cut(order: list[int], size: int) -> list[set[int]]:
    return [set(order[start : start + size]) for start in range(0, len(order), size)]


def test_padding_stays_under_five_per_cent_where_random_batches_do_not() -> None:
    lengths = mixed_lengths()
    drawn = np.random.default_rng(0).permutation(len(lengths))
    assert padding_share(lengths, drawn, 8) > 0.10
    for epoch in range(3):
        sampler = LengthSampler(lengths.tolist(), 8, seed=5)
        sampler.set_epoch(epoch)
        assert padding_share(lengths, np.array(list(sampler)), 8) < 0.05


def test_padding_share_is_counted_by_hand() -> None:
    lengths = np.array([4, 2, 3, 1])
    assert padding_share(lengths, np.array([0, 1, 2, 3]), 2) == pytest.approx(1 - 10 / 14)
    assert padding_share(lengths, np.array([0, 2, 1, 3]), 3) == pytest.approx(1 - 10 / 13)
    assert padding_share(lengths, np.array([0, 1, 2, 3]), 1) == 0


@pytest.mark.parametrize(("count", "step_size"), [(700, 8), (7, 8), (8, 8), (17, 4), (1, 1)])
def test_every_example_comes_once_in_every_epoch(count: int, step_size: int) -> None:
    sampler = LengthSampler(mixed_lengths(count).tolist(), step_size, seed=3)
    assert len(sampler) == count
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        assert sorted(sampler) == list(range(count))


def test_the_order_follows_from_seed_and_epoch() -> None:
    lengths = mixed_lengths().tolist()
    one, two, other = (LengthSampler(lengths, 8, seed) for seed in (3, 3, 4))
    assert list(one) == list(two) == list(one)
    assert list(one) != list(other)
    two.set_epoch(1)
    assert list(one) != list(two)


def test_steps_are_drawn_at_random_where_lengths_hardly_differ() -> None:
    lengths = np.random.default_rng(0).integers(98, 101, 640)
    assert smallest_pool(lengths, 8, seed=0) == 1
    steps = lengths[epoch_order(lengths, 8, 1, seed=0)].reshape(-1, 8)
    assert (steps.max(1) > steps.min(1)).mean() > 0.9
    assert (np.diff(steps, axis=1) <= 0).all()


def test_what_fills_no_step_is_drawn_at_random() -> None:
    lengths = mixed_lengths(701)
    last = {int(lengths[epoch_order(lengths, 4, 64, seed)[-1]]) for seed in range(40)}
    assert min(last) < np.quantile(lengths, 0.3)
    assert max(last) > np.quantile(lengths, 0.7)


def loader(processor: Any, examples: ExampleSet, collate: Any = None, **train: int) -> StepLoader:
    recipe = recipe_from({"train": {"steps": 2, **train}})
    return StepLoader(examples, collate or Collator(processor.tokenizer.pad_token_id), recipe, rank=0, ranks=1)


def rows_of_steps(one: StepLoader, steps: int, micro_batches: int) -> list[list[str]]:
    """Rows of each step, as an error message names them."""
    return [
        sorted(row for index in range(micro_batches) for row in one.rows_of(step, index).split(", ") if row)
        for step in range(steps)
    ]


@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 2), (1, 4)])
def test_a_step_holds_the_same_examples_however_it_is_cut(
    batch_size: int, accumulate: int, processor: Any, examples: ExampleSet
) -> None:
    whole = loader(processor, examples, batch_size=4)
    parts = loader(processor, examples, batch_size=batch_size, accumulate=accumulate)
    assert whole.steps_per_epoch == parts.steps_per_epoch == 2
    assert rows_of_steps(whole, 1, 1) == rows_of_steps(parts, 1, accumulate)


def test_the_last_step_of_an_epoch_is_shorter(processor: Any, examples: ExampleSet) -> None:
    """6 examples, 4 a step: the second step of an epoch has half of the micro-batches; epochs count micro-batches."""
    one = loader(processor, examples, batch_size=1, accumulate=4)
    assert [len(micro_batches) for micro_batches in one.steps(0, 5)] == [4, 2, 4, 2, 4]
    assert [one.epoch_after(step) for step in (1, 2, 3, 4)] == [4 / 6, 1.0, 1 + 4 / 6, 2.0]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_resumed_run_gets_the_batches_of_an_undisturbed_one(
    done: int, processor: Any, examples: ExampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"batch_size": 2, "accumulate": 2}
    every = list(loader(processor, examples, **settings).steps(0, 5))
    opened = noted_calls(monkeypatch, ExampleSet, "images")
    resumed = list(loader(processor, examples, **settings).steps(done, 5))
    assert len(resumed) == 5 - done
    for expected, found in zip(every[done:], resumed, strict=True):
        assert [batch["input_ids"].tolist() for batch in found] == [batch["input_ids"].tolist() for batch in expected]
    assert len(opened) == sum(len(batch["input_ids"]) for step in every[done:] for batch in step)


def test_the_loop_reports_the_padding_it_saw(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    recipe = recipe_from({"train": {"steps": 2, "batch_size": 3, "log_every": 1, "method": "full"}})
    logged: list[float] = []

    class PaddingRecorder(Recorder):
        def log(self, step: int, metrics: Any) -> None:
            logged.extend(value for name, value in metrics.items() if name == "padding")

    apply_method(model, recipe.train, LoraSettings())
    figures = fit(model, processor, examples, None, recipe, tmp_path, PaddingRecorder())
    lengths = np.array(examples.lengths)
    sampler = LengthSampler(examples.lengths, 3, named_seed(recipe.seed, "order") % 2**32)
    assert len(logged) == 2
    assert figures["padding"] == logged[-1] == pytest.approx(padding_share(lengths, np.array(list(sampler)), 3))
    assert 0 < logged[-1] < 1


def test_epochs_of_the_loop_differ(processor: Any, examples: ExampleSet) -> None:
    one = loader(processor, examples, batch_size=1)
    seen = [batch["input_ids"].shape[1] for micro_batches in one.steps(0, 12) for batch in micro_batches]
    assert sorted(seen[:6]) == sorted(seen[6:])
    assert seen[:6] != seen[6:]
