"""A recorded step holds addresses and shapes, never values: replayed, it gives the answers of steps that run anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from phisight.generate import Request
from phisight.generate.decoding.sequence_cache import SequenceCache
from phisight.generate.decoding.static_step import Outputs, StaticStep, Step
from phisight.generate.scheduler import Scheduler
from tests.helpers import small_model

TEXTS = ["Tell me. " * (1 + row % 5) + "More. " * (row % 3) for row in range(11)]
IMAGES = [small_model.image(row, 60 + 40 * row, 90) for row in range(4)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size is recorded when it first comes up."""
    monkeypatch.setattr("phisight.generate.decoding.static_step.RECORD_AFTER", 0)


class Traced:
    """Records as a GPU does, on a CPU: the kernels of a step with the tensors they were given, nothing of Python."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, step: Step) -> Step:
        self.recorded += 1
        graph = make_fx(step)()

        def replay() -> Outputs:
            self.replayed += 1
            outputs: Outputs = graph()
            return outputs

        return replay


def answers(model: Any, record: Any, monkeypatch: pytest.MonkeyPatch, max_sequences: int = 5) -> dict[int, list[int]]:
    monkeypatch.setattr("phisight.generate.scheduler.recorder_of", lambda _device: record)
    asked = [Request(text, IMAGES[row % 4 : row % 4 + row % 2]) for row, text in enumerate(TEXTS)]
    scheduler = Scheduler(model, small_model.processor(), max_sequences=max_sequences, max_new_tokens=24)
    return {one.index: one.ids for one in scheduler.run(enumerate(asked))}


@pytest.mark.slow
@pytest.mark.parametrize(("attention", "window"), [("sdpa", None), ("eager", None), ("sdpa", 40)])
def test_replayed_steps_give_the_same_answers(
    attention: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows join, end and change places, some outgrow the short rotary factors, and the cache grows."""
    model = small_model.model(attention=attention, sliding_window=window).eval()
    expected = answers(model, None, monkeypatch)
    traced = Traced()
    assert answers(model, traced, monkeypatch) == expected
    assert traced.recorded < 12 < traced.replayed
    assert len({tuple(ids) for ids in expected.values()}) > 3


@pytest.mark.slow
def test_a_value_that_was_recorded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this file would not see if replaying ran the Python of a step again."""
    model, run = small_model.model().eval(), StaticStep._run
    expected = answers(model, None, monkeypatch)

    def frozen(self: StaticStep, rows: int, seen: int) -> Outputs:
        self._inputs = self._inputs.clone()  # a buffer that the next call does not write
        return run(self, rows, seen)

    monkeypatch.setattr(StaticStep, "_run", frozen)
    assert answers(model, Traced(), monkeypatch) != expected


def step_of(cache: SequenceCache, record: Callable[[Step], Step] | None, seen: list[tuple[int, int]]) -> StaticStep:
    def forward(ids: torch.Tensor, mask: torch.Tensor, _positions: torch.Tensor) -> Outputs:
        seen.append((len(ids), mask.shape[-1]))
        return (ids + (mask == 0).sum(-1)[:, :, 0]).float(), None

    return StaticStep(forward, cache, device=torch.device("cpu"), dtype=torch.float32, record=record)


def test_recorded_sizes_are_few_and_real_ones_exact() -> None:
    cache, seen = SequenceCache(12, length=600), [(0, 0)]
    plain, recorded = step_of(cache, None, seen), step_of(cache, lambda step: step, seen)
    for rows, longest in ((1, 3), (3, 255), (5, 256), (9, 599), (12, 7)):
        cache.active = rows
        tokens, positions = [10 * row for row in range(rows)], [longest - row % 3 for row in range(rows)]
        expected = [token + position + 1 for token, position in zip(tokens, positions, strict=True)]
        for step in (plain, recorded):
            logits, hidden = step(tokens, positions)
            assert logits[:, 0].tolist() == expected
            assert hidden is None
    assert seen[1::2] == [(1, 4), (3, 256), (5, 257), (9, 600), (12, 8)]
    assert seen[2::2] == [(1, 256), (4, 256), (8, 512), (12, 600), (12, 256)]


def test_only_what_comes_up_often_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phisight.generate.decoding.static_step.RECORD_AFTER", 3)
    cache, seen = SequenceCache(4, length=64), [(0, 0)]
    step = step_of(cache, lambda step: step, seen)
    for rows in (3, 3, 2, 3, 3, 2, 3):
        cache.active = rows
        step([0] * rows, [5] * rows)
    assert seen[1:] == [(3, 6), (3, 6), (2, 6), (3, 6), (4, 64), (2, 6), (4, 64)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_replays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = small_model.model().eval().to("cuda")
    recorded = Scheduler(model, small_model.processor(), max_sequences=5, max_new_tokens=24)
    assert recorded._next._record is not None
    asked = [Request(text) for text in TEXTS]
    found = {one.index: one.ids for one in recorded.run(enumerate(asked))}
    monkeypatch.setattr("phisight.generate.scheduler.recorder_of", lambda _device: None)
    plain = Scheduler(model, small_model.processor(), max_sequences=5, max_new_tokens=24)
    assert found == {one.index: one.ids for one in plain.run(enumerate(asked))}
