"""Continuous batching gives the answers of one request at a time, whoever shares the steps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from phisight.core.errors import EvaluationError, ImageError, MissingImageError
from phisight.core.task import Task
from phisight.generate import (
    AnswerGrammar,
    ExpectedNumbers,
    HeadNumbers,
    NumberWriter,
    Predictor,
    Request,
    number_decoding,
)
from phisight.generate.confidence import field_confidences
from phisight.generate.decoding.sequence_cache import SequenceCache
from phisight.generate.prepare import Preparer
from phisight.generate.scheduler import Scheduler
from phisight.model.number_head import NumberHead, attach_head
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers import small_model
from tests.helpers.one_thread import one_thread

TASK = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})
ANSWERS = [f"Name: Thing {number}, Price: {10.0 * number + 90}" for number in range(30)]


@pytest.fixture(autouse=True)
def unshared() -> Iterator[None]:
    """These products are too small to share among threads."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    processor = tiny_processor([*ANSWERS, TASK.prompt] * 3, vocab_size=420, num_crops=4)
    model = tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2), seed=3)
    return model.eval(), processor


def requests(count: int = 9, most: int = 2) -> list[Request]:
    """Prompts and images of different lengths, up to ``most`` images each."""
    draw = np.random.default_rng(0)
    found = []
    for row in range(count):
        height, width = (int(side) for side in draw.integers(60, 320, 2))
        images = [
            Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(1 + row % most)
        ]
        found.append(Request(TASK.prompt + " More." * (row % 3), images))
    return found


def grammar_of(tiny: tuple[Any, Any]) -> AnswerGrammar:
    model, processor = tiny
    return AnswerGrammar(TASK, processor.tokenizer, {}, model.generation_config.eos_token_id, max_text_tokens=7)


@pytest.mark.parametrize("max_sequences", [1, 3, 20])
def test_answers_are_those_of_one_at_a_time(max_sequences: int, tiny: tuple[Any, Any]) -> None:
    asked = requests()
    alone = dict(Predictor(*tiny, batch_size=1, max_new_tokens=20).answers(asked))
    scheduler = Scheduler(*tiny, max_sequences=max_sequences, max_new_tokens=20)
    found = {one.index: one.text for one in scheduler.run(enumerate(asked))}
    assert found == alone
    assert len(set(alone.values())) > 2, "random weights should not answer everything alike"
    assert not scheduler.busy
    assert scheduler.free == max_sequences


def test_a_row_that_ends_makes_room_for_the_next(tiny: tuple[Any, Any]) -> None:
    """Answers held to a template end at different steps: requests join in the middle of others."""
    asked, grammar = requests(), grammar_of(tiny)
    alone = dict(Predictor(*tiny, batch_size=1, max_new_tokens=60, grammar=grammar).answers(asked))
    scheduler = Scheduler(*tiny, max_sequences=4, max_new_tokens=60, grammar=grammar)
    found = {one.index: one for one in scheduler.run(enumerate(asked))}
    assert {index: one.text for index, one in found.items()} == alone
    assert len({len(one.log_probabilities) for one in found.values()}) > 2
    assert all(TASK.parse(one.text).values for one in found.values())


def writer(kind: str, tiny: tuple[Any, Any]) -> NumberWriter:
    model, processor = tiny
    if kind == "expected":
        return ExpectedNumbers(TASK, processor.tokenizer)
    torch.manual_seed(0)
    head = NumberHead.fit(model.config.hidden_size, {"price": [10.0 * n + 90 for n in range(30)]})
    torch.nn.init.normal_(head.outer.weight)
    attach_head(model, head)
    return HeadNumbers(TASK, processor.tokenizer)


@pytest.mark.parametrize("kind", ["head", "expected"])
def test_numbers_are_decided_as_elsewhere(kind: str, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_decoding, "LEAST_MASS", 0.0)  # an untrained model spreads its probability wide
    asked, grammar = requests(6, most=1), grammar_of(tiny)
    numbers = writer(kind, tiny)
    try:
        alone = dict(Predictor(*tiny, batch_size=1, max_new_tokens=60, grammar=grammar, numbers=numbers).answers(asked))
        scheduler = Scheduler(*tiny, max_sequences=3, max_new_tokens=60, grammar=grammar, numbers=numbers)
        found = {one.index: one for one in scheduler.run(enumerate(asked))}
    finally:
        attach_head(tiny[0], None)
    assert {index: one.text for index, one in found.items()} == alone
    assert any(one.text != one.written for one in found.values())


def test_rows_that_outgrow_the_short_rotary_factors() -> None:
    """A row's factors follow from its own length; one that crosses is read again, its neighbors are not."""
    model, processor = small_model.model().eval(), small_model.processor()
    model.generation_config.eos_token_id = []
    texts = ["Tell me. " * 3, "Tell me. " * 7, "Tell me. " * 12]
    asked = [Request(text) for text in texts]
    lengths = [len(processor(text=[Predictor(model, processor)._encoder.text(one)])["input_ids"][0]) for one in asked]
    new, limit = 40, small_model.ORIGINAL_LENGTH
    assert sorted((n > limit, n + new > limit) for n in lengths) == [(False, False), (False, True), (True, True)]
    scheduler = Scheduler(model, processor, max_sequences=3, max_new_tokens=new)
    found = {one.index: one for one in scheduler.run(enumerate(asked))}
    for index, request in enumerate(asked):
        inputs = processor(text=[Predictor(model, processor)._encoder.text(request)], return_tensors="pt")
        ids = inputs["input_ids"]
        for _ in range(new):  # no cache at all: the whole row anew for every token
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[:, -1]
            logits[:, model.config.image_token_id] = float("-inf")
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
        expected = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0].strip()
        assert found[index].text == expected


def test_probabilities_are_the_model_s(tiny: tuple[Any, Any]) -> None:
    model, processor = tiny
    asked = requests(4)
    for one in Scheduler(*tiny, max_sequences=4, max_new_tokens=12).run(enumerate(asked)):
        request = asked[one.index]
        text = processor.apply_chat_template(request.messages(), add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=[list(request.images)], return_tensors="pt")
        prompt = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([one.ids])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            scores = model(**inputs).logits[0].log_softmax(-1)
        expected = [scores[prompt + place - 1, token].item() for place, token in enumerate(one.ids)]
        assert one.log_probabilities == pytest.approx(expected, abs=1e-3)


def test_an_image_that_cannot_be_used_costs_its_own_row(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    asked = requests(5)
    asked[2] = Request(TASK.prompt, [tmp_path / "gone.jpg"])
    failed: dict[int, ImageError] = {}
    scheduler = Scheduler(*tiny, max_sequences=2, max_new_tokens=4)
    found = {one.index for one in scheduler.run(enumerate(asked), on_failure=failed.__setitem__)}
    assert found == {0, 1, 3, 4}
    assert isinstance(failed[2], MissingImageError)
    with pytest.raises(MissingImageError):
        list(scheduler.run(enumerate(asked)))


def test_requests_are_taken_as_they_are_needed(tiny: tuple[Any, Any]) -> None:
    """However many there are, only a few are ahead of the model; a caller that stops leaves no thread behind."""
    taken = []

    def endless() -> Iterator[tuple[int, Request]]:
        for index, request in enumerate(requests(1) * 10_000):
            taken.append(index)
            yield index, request

    threads = threading.active_count()
    scheduler = Scheduler(*tiny, max_sequences=2, max_new_tokens=3, workers=2)
    answers = scheduler.run(endless())
    for _ in range(5):
        next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(taken) < 25
    assert threading.active_count() == threads


def test_the_cache_moves_the_last_slot_into_the_free_one() -> None:
    cache, prompts = SequenceCache(3), small_model.model()(input_ids=torch.arange(5, 13).reshape(2, 4)).past_key_values
    cache.join(prompts, [4, 3], room=10)
    second = cache.layers[0].keys[1].clone()
    assert second[:, :3].equal(prompts.layers[0].keys[1][:, 1:])  # left padding is gone
    assert cache.leave(0) == 1
    assert cache.active == 1
    assert cache.layers[0].keys[0].equal(second)


def test_what_cannot_be_scheduled_is_refused(tiny: tuple[Any, Any]) -> None:
    with pytest.raises(EvaluationError, match="max_sequences 0"):
        Scheduler(*tiny, max_sequences=0)
    model = small_model.model(rope_switch="batch")
    with pytest.raises(EvaluationError, match="rope_switch row"):
        Scheduler(model, small_model.processor())


@pytest.mark.parametrize("kind", ["plain", "head", "expected"])
def test_a_predictor_may_schedule(kind: str, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers, texts and cuts by index, whichever way they are made; a model that cannot be is not."""
    monkeypatch.setattr(number_decoding, "LEAST_MASS", 0.0)
    numbers = None if kind == "plain" else writer(kind, tiny)
    options: dict[str, Any] = {"batch_size": 4, "max_new_tokens": 26, "numbers": numbers}
    asked = requests(9, most=1)
    try:
        plain = dict(Predictor(*tiny, **options).generations(asked))
        scheduled = Predictor(*tiny, **options, continuous=True)
        monkeypatch.setattr(scheduled, "_generate", None)
        assert dict(scheduled.generations(asked)) == plain
    finally:
        attach_head(tiny[0], None)
    assert any(one.unread for one in plain.values())
    model = small_model.model(rope_switch="batch").eval()
    asked = [Request("Tell me.")]
    answers = [
        dict(Predictor(model, small_model.processor(), max_new_tokens=5, continuous=wanted).answers(asked))
        for wanted in (False, True)
    ]
    assert answers[0] == answers[1]


def test_confidence_of_a_field_is_that_of_its_tokens() -> None:
    pieces = [b"Name", b": ", b"Red", b" hat", b",", b" Price: ", b"4", b"7", b""]
    logs = [-0.1, -0.2, -0.3, -0.4, -0.05, -0.6, -0.7, -0.8, -0.01]
    found = field_confidences(TASK, "Name: Red hat, Price: 47", pieces, logs)
    assert found is not None
    assert found["title"] == pytest.approx(np.exp(-0.3 - 0.4 - 0.05))
    assert found["price"] == pytest.approx(np.exp(-0.7 - 0.8 - 0.01))
    assert field_confidences(TASK, "Something else", pieces, logs) is None


def test_prompts_are_encoded_once_and_not_mixed_up(tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a text about images of other sizes are others; only so many are kept."""
    _, processor = tiny
    monkeypatch.setattr("phisight.generate.prepare.MOST_PROMPTS", 3)
    preparer = Preparer(processor)
    for request in [*requests(12), *requests(12)]:
        text = processor.apply_chat_template(request.messages(), add_generation_prompt=True, tokenize=False)
        expected = processor(text=[text], images=[list(request.images)], return_tensors="pt")
        found = preparer(0, request).inputs
        assert found.keys() == expected.keys()
        assert all(found[name].equal(expected[name]) for name in expected)
        assert len(preparer._prompts) <= 3
        assert len(preparer._texts) <= 3
