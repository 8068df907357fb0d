"""A step's examples are the same however it is cut, and every process gets as many micro-batches as the others."""

import math

import pytest
import torch

from phisight.train.examples.sampler import LengthSampler, StepBatches, WithDummies

LENGTHS = [5, 9, 3, 7, 8, 2, 6, 4, 1, 10, 12, 11, 13, 20, 19, 17, 18]


def cut(batch_size: int, ranks: int, epoch: int = 0, rows: int = 17) -> list[list[list[int]]]:
    """Micro-batches of each process."""
    every = [StepBatches(LengthSampler(LENGTHS[:rows], 4, seed=3), batch_size, rank, ranks) for rank in range(ranks)]
    for one in every:
        one.set_epoch(epoch)
    assert [len(one) for one in every] == [len(list(one)) for one in every]
    return [list(one) for one in every]


def steps(batch_size: int, ranks: int, epoch: int, rows: int) -> list[set[int]]:
    """Places that count in each step of four examples."""
    batches, a_step = cut(batch_size, ranks, epoch, rows), 4 // (batch_size * ranks)
    starts = range(0, len(batches[0]), a_step)
    return [
        {place for rank in batches for batch in rank[start : start + a_step] for place in batch if place >= 0}
        for start in starts
    ]


@pytest.mark.parametrize(("batch_size", "ranks"), [(2, 1), (1, 1), (2, 2), (1, 2), (1, 4)])
@pytest.mark.parametrize("rows", [14, 15, 16, 17])
def test_steps_hold_the_same_examples(batch_size: int, ranks: int, rows: int) -> None:
    for epoch in range(2):
        expected = steps(4, 1, epoch, rows)
        assert steps(batch_size, ranks, epoch, rows) == expected
        assert len(expected) == math.ceil(rows / 4)
        assert set.union(*expected) == set(range(rows))
    assert steps(4, 1, 0, rows) != steps(4, 1, 1, rows)


def test_a_process_without_an_example_gets_one_that_does_not_count() -> None:
    first, second = cut(2, 2)
    assert len(first) == len(second) == 5
    assert [len(batch) for batch in first] == [2, 2, 2, 2, 1]
    assert second[-1] == [-1 - first[-1][0]]
    assert all(place >= 0 for batch in second[:-1] for place in batch)


def test_the_indices_of_a_micro_batch() -> None:
    order = LengthSampler(LENGTHS, 4, seed=3)
    order.set_epoch(5)
    batches = StepBatches(order, 2, rank=1, ranks=2)
    assert batches.real_indices(0, 1) == cut(2, 2)[1][1]
    assert batches.real_indices(0, 4) == []
    assert order.epoch == 5


def test_what_does_not_count_has_no_loss() -> None:
    example = {
        "input_ids": torch.tensor([1, 2]),
        "labels": torch.tensor([-100, 2]),
        "label_weights": torch.tensor([1.0, 2.0]),
        "numbers": torch.tensor([7.0, torch.nan], dtype=torch.float64),
    }
    examples = WithDummies([example])
    assert examples[0] is example
    other = examples[-1]
    assert other["input_ids"].tolist() == [1, 2]
    assert other["labels"].tolist() == [-100, -100]
    assert other["label_weights"].tolist() == [0, 0]
    assert bool(other["numbers"].isnan().all())
