"""Batches of like length: little padding, every example once, the same order for the same seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phisight.core.geometry import image_tokens
from phisight.core.recipe import recipe_from
from phisight.core.settings import LoraSettings
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.sampler import LengthSampler, epoch_order, padding_share, smallest_pool
from phisight.train.loop import CheckedTrainer, fit
from phisight.train.trainable.methods import apply_method
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


def trainer(model: Any, processor: Any, examples: ExampleSet, folder: Path, **sizes: int) -> CheckedTrainer:
    from phisight.train.arguments import training_arguments

    recipe = recipe_from({"train": {"steps": 2, **sizes}})
    return CheckedTrainer(
        recipe.train,
        model=model,
        args=training_arguments(recipe, folder, 2, evaluate=False),
        train_dataset=examples,
        data_collator=Collator(processor.tokenizer.pad_token_id),
    )


@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 2), (1, 4)])
def test_a_step_holds_the_same_examples_however_it_is_cut(
    batch_size: int, accumulate: int, model: Any, processor: Any, examples: ExampleSet, tmp_path: Path
) -> None:
    whole = trainer(model, processor, examples, tmp_path, batch_size=4)
    parts = trainer(model, processor, examples, tmp_path, batch_size=batch_size, accumulate=accumulate)
    orders = [list(one._get_train_sampler()) for one in (whole, parts)]
    assert cut(orders[0], 4) == cut(orders[1], 4)


def test_the_loop_reports_the_padding_it_saw(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    recipe = recipe_from({"train": {"steps": 2, "batch_size": 3, "log_every": 1, "method": "full"}})
    logged: list[float] = []

    class PaddingRecorder(Recorder):
        def log(self, step: int, metrics: Any) -> None:
            logged.extend(value for name, value in metrics.items() if name == "padding")

    apply_method(model, recipe.train, LoraSettings())
    figures = fit(model, processor, examples, None, recipe, tmp_path, PaddingRecorder())
    lengths = np.array(examples.lengths)
    sampler = trainer(model, processor, examples, tmp_path, batch_size=3)._get_train_sampler()
    assert len(logged) == 2
    assert figures["padding"] == logged[-1] == pytest.approx(padding_share(lengths, np.array(list(sampler)), 3))
    assert 0 < logged[-1] < 1


def test_epochs_of_the_loop_differ(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Watched(Collator):
        def __call__(self, some: Any) -> dict[str, torch.Tensor]:
            seen.append([len(one["input_ids"]) for one in some])
            return super().__call__(some)

    loop = trainer(model, processor, examples, tmp_path, batch_size=1)
    loop.args.max_steps = 12
    loop.data_collator = Watched(processor.tokenizer.pad_token_id)
    loop.train()
    assert sorted(seen[:6]) == sorted(seen[6:12])
    assert seen[:6] != seen[6:12]
