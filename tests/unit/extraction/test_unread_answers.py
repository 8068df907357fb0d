"""What cannot be trusted is no field: answers that were cut, numbers beyond a float, numbers nobody could decide."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from phisight.core.task import Task
from phisight.extraction.answer import AnswerReader
from phisight.extraction.openai_engine import answer_of
from phisight.generate import AnswerGrammar, Predictor, Request
from phisight.generate.completions import Completion
from phisight.generate.scheduler import Scheduler
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor

TASK = Task(answer="Price: {price}", fields={"price": "number"})


def completion(text: str, unread: str | None = None) -> Completion:
    return Completion(0, text, text, [1], [text.encode()], [-0.1], unread=unread)


@pytest.mark.parametrize("text", ["Price: 1e999", f"Price: {'7' * 40}", "Price: -1e15"])
def test_a_number_beyond_a_float_is_no_field(text: str) -> None:
    answer = AnswerReader(TASK).read(completion(text))
    assert (dict(answer), answer.text) == ({}, text)
    assert answer.error == "not read: field 'price' is no number: too large"


def test_why_an_answer_is_not_read_is_its_error() -> None:
    answer = AnswerReader(TASK).read(completion("Price: 25", "cut at 3 tokens"))
    assert (answer.ok, dict(answer), answer.error) == (False, {}, "not read: cut at 3 tokens")
    assert AnswerReader(TASK).read(completion("Price: 25"))["price"] == 25.0


@pytest.mark.parametrize(
    ("usage", "reason"), [({"completion_tokens": 7}, "cut at 7 tokens"), ({}, "cut at max_new_tokens")]
)
def test_an_answer_that_a_server_cut_is_unread(usage: dict[str, int], reason: str) -> None:
    choice = {"message": {"content": "Price: 25"}, "finish_reason": "length"}
    answer = answer_of({"choices": [choice], "usage": usage}, AnswerReader(TASK))
    assert (dict(answer), answer.text, answer.error) == ({}, "Price: 25", f"not read: {reason}")
    whole = answer_of({"choices": [{**choice, "finish_reason": "stop"}]}, AnswerReader(TASK))
    assert whole["price"] == 25.0


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    texts = [f"Price: {number}.5" for number in range(100, 130)]
    processor = tiny_processor([*texts, TASK.prompt] * 3, vocab_size=400, num_crops=1)
    return tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2), seed=1).eval(), processor


@pytest.mark.parametrize("most", [1, 2])
def test_a_cut_answer_is_unread_in_both_engines(tiny: tuple[Any, Any], most: int) -> None:
    """The template, a digit and an end token need three tokens at least."""
    model, processor = tiny
    ends = model.generation_config.eos_token_id
    grammar = AnswerGrammar(TASK, processor.tokenizer, {}, ends, ranges={"price": (1e5, 9e11)}, decimals={"price": 1})
    requests = [Request(TASK.prompt, [Image.new("RGB", (112, 112), (shade, 9, 9))]) for shade in (0, 200)]
    options: dict[str, Any] = {"grammar": grammar, "max_new_tokens": most}
    batched = [one for _, one in Predictor(model, processor, **options).generations(requests)]
    completions = list(Scheduler(model, processor, max_sequences=2, **options).run(enumerate(requests)))
    why = [one.unread for one in batched] + [one.unread for one in completions]
    assert why == [f"cut at {most} tokens"] * 4
    assert all(AnswerReader(TASK).read(one).error == f"not read: cut at {most} tokens" for one in completions)
    whole = {**options, "max_new_tokens": 60}
    every = [one for _, one in Predictor(model, processor, **whole).generations(requests)]
    again = list(Scheduler(model, processor, max_sequences=2, **whole).run(enumerate(requests)))
    assert [one.unread for one in every] + [one.unread for one in again] == [None] * 4
