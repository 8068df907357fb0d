"""Several schedulers over one model: the same answers as one, every request once, and nothing left behind."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import ImageError, SettingsError
from phisight.core.task import Task
from phisight.generate import AnswerGrammar, HeadNumbers, Request
from phisight.generate.completions import Completion
from phisight.generate.lanes import lanes_for, run_lanes
from phisight.generate.scheduler import Scheduler
from phisight.model.number_head import NumberHead, attach_head
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers import small_model

TASK = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    answers = [f"Name: Thing {number}, Price: {10.0 * number + 90}" for number in range(30)]
    processor = tiny_processor([*answers, TASK.prompt] * 3, vocab_size=420)
    return tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2), seed=3).eval(), processor


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


REQUESTS = [Request(TASK.prompt, [small_model.image(row, 60 + 9 * row, 90)]) for row in range(17)]


@pytest.mark.slow
@pytest.mark.parametrize("head", [False, True])
def test_every_lane_answers_as_one_alone(head: bool, tiny: tuple[Any, Any]) -> None:
    """Masks of a grammar and the states that a number head reads are not mixed up between them."""
    model, processor = tiny
    grammar = AnswerGrammar(TASK, processor.tokenizer, {}, model.generation_config.eos_token_id, max_text_tokens=7)
    numbers = None
    if head:
        torch.manual_seed(0)
        fitted = NumberHead.fit(model.config.hidden_size, {"price": [10.0 * n + 90 for n in range(30)]})
        torch.nn.init.normal_(fitted.outer.weight)
        attach_head(model, fitted)
        numbers = HeadNumbers(TASK, processor.tokenizer)

    def make() -> Scheduler:
        return Scheduler(*tiny, max_sequences=3, max_new_tokens=60, grammar=grammar, numbers=numbers)

    try:
        alone = {one.index: (one.text, one.ids) for one in make().run(enumerate(REQUESTS))}
        for lanes in (1, 2, 3):
            found = [one for one in run_lanes(make, enumerate(REQUESTS), lanes) if isinstance(one, Completion)]
            assert len(found) == len(REQUESTS)
            assert {one.index: (one.text, one.ids) for one in found} == alone
    finally:
        attach_head(model, None)


def test_images_that_cannot_be_used(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    asked = [*REQUESTS[:4], Request(TASK.prompt, [tmp_path / "gone.jpg"]), *REQUESTS[4:8]]
    found = list(run_lanes(lambda: Scheduler(*tiny, max_sequences=2, max_new_tokens=4), enumerate(asked), 2))
    (failed,) = [one for one in found if not isinstance(one, Completion)]
    assert failed[0] == 4
    assert isinstance(failed[1], ImageError)
    assert sorted(one.index for one in found if isinstance(one, Completion)) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_requests_are_taken_as_they_are_needed(tiny: tuple[Any, Any]) -> None:
    taken = []

    def endless() -> Iterator[tuple[int, Request]]:
        for index in range(10_000):
            taken.append(index)
            yield index, REQUESTS[0]

    threads = threading.active_count()
    answers = run_lanes(lambda: Scheduler(*tiny, max_sequences=2, max_new_tokens=3), endless(), 2)
    for _ in range(5):
        next(answers)
    assert torch.get_num_threads() == 1
    answers.close()  # type: ignore[attr-defined]
    assert len(taken) < 400
    assert threading.active_count() == threads


def test_what_concerns_all_is_raised(tiny: tuple[Any, Any]) -> None:
    def broken() -> Iterator[tuple[int, Request]]:
        yield 0, REQUESTS[0]
        raise SettingsError("the source has changed")

    threads = threading.active_count()
    with pytest.raises(SettingsError, match="has changed"):
        list(run_lanes(lambda: Scheduler(*tiny, max_sequences=2, max_new_tokens=3), broken(), 2))
    assert threading.active_count() == threads


def test_how_many(tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert lanes_for(tiny[0], 64) == 2
    assert lanes_for(tiny[0], 15) == 1
    assert lanes_for(tiny[0], 1) == 1
    monkeypatch.setattr("phisight.generate.lanes.SMALL", 1000)
    assert lanes_for(tiny[0], 64) == 1
