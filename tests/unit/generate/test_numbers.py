"""Numbers of answers: where they begin, the distribution over digit strings, the head's number in the text."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from phisight.core.errors import CheckpointError
from phisight.core.task import Task
from phisight.extraction.answer import AnswerReader
from phisight.generate import (
    AnswerGrammar,
    ExpectedNumbers,
    HeadNumbers,
    Predictor,
    Request,
    number_positions,
    number_writer,
    token_bytes,
)
from phisight.generate.digit_distribution import DigitSearch
from phisight.generate.number_decoding import Generated, Rewritten, replaced, weighted_median
from phisight.generate.scheduler import Scheduler
from phisight.model.number_head import NumberHead, attach_head, head_of
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor

TASK = Task(
    answer="Price: {price}, Name: {title}, Weight: {weight} kg",
    fields={"price": "number", "title": "text", "weight": "number"},
)
LAST = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})
ANSWERS = [f"Name: Thing {number}, Price: {10.0 * number + 90}" for number in range(30)]


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    processor = tiny_processor([*ANSWERS, LAST.prompt] * 3, vocab_size=420, num_crops=1)
    model = tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2), seed=3)
    return model.eval(), processor


def requests(count: int = 4) -> list[Request]:
    noise = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    return [Request(LAST.prompt + " More." * (row % 2), [Image.fromarray(noise[row])]) for row in range(count)]


def constrained(tiny: tuple[Any, Any]) -> AnswerGrammar:
    model, processor = tiny
    return AnswerGrammar(LAST, processor.tokenizer, {}, model.generation_config.eos_token_id, max_text_tokens=6)


@pytest.mark.parametrize(
    ("pieces", "answer", "places"),
    [
        (["Price", ":", " ", "4", "7", ", Name: A, Weight: ", "2", " kg"], "Price: 47, Name: A, Weight: 2 kg", (3, 6)),
        ([" Price", ": 4", "7", ", Name: Ä, Weight:", " ", "2", " kg"], "Price: 47, Name: Ä, Weight: 2 kg", (1, 5)),
        (["", "Price: ", ", Name: A, Weight: ", "2", " kg"], "Price: , Name: A, Weight: 2 kg", (2, 3)),
    ],
)
def test_numbers_begin_at_the_token_of_their_first_digit(
    pieces: list[str], answer: str, places: tuple[int, int]
) -> None:
    found = number_positions(TASK, [piece.encode() for piece in pieces], answer)
    assert found == {"price": places[0], "weight": places[1]}


def test_texts_without_the_form_or_other_tokens_have_no_places() -> None:
    assert number_positions(TASK, [b"no idea"], "no idea") is None
    assert number_positions(LAST, [b"Name: B, Price: 1"], "Name: A, Price: 1") is None


def test_a_number_is_replaced_as_the_task_writes_it() -> None:
    text = "Price: 4.7.7, Name: A 12, Weight:  3 kg"
    assert replaced(TASK, text, {"price": 470.0, "weight": 2.5}) == "Price: 470.0, Name: A 12, Weight:  2.5 kg"
    assert replaced(TASK, "what?", {"price": 1.0}) == "what?"
    assert TASK.parse(replaced(TASK, text, {"price": 470.0})).values


def test_the_median_halves_the_weight() -> None:
    assert weighted_median({300.0: 0.2, 100.0: 0.4, 200.0: 0.4}) == 200.0
    assert weighted_median({100.0: 0.6, 900.0: 0.4}) == 100.0


def test_string_probabilities_are_those_of_one_pass_each(
    tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strings of all rows share a cache that is reordered at every step; each must keep its own past."""
    model, processor = tiny
    monkeypatch.setattr("phisight.generate.digit_distribution.MOST_STEPS", 3)
    prompts = [f"Name: Thing {number}, Price:" for number in (1, 22, 333)]
    inputs = dict(processor.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left"))
    width = inputs["input_ids"].shape[1]
    search = DigitSearch(token_bytes(processor.tokenizer), processor.tokenizer.pad_token_id, width=1000, floor=1e-30)
    with torch.no_grad():
        found = search.strings(model, inputs, inputs["input_ids"], dict.fromkeys(range(3), width))
        for row in range(3):
            expected = _two_tokens(model, processor, inputs["input_ids"][row], inputs["attention_mask"][row])
            assert found[row].keys() == expected.keys()
            assert len(expected) > 50
            for number, probability in expected.items():
                assert found[row][number] == pytest.approx(probability, rel=1e-3)
        assert found[0] != found[1]


def _two_tokens(model: Any, processor: Any, ids: torch.Tensor, mask: torch.Tensor) -> dict[float, float]:
    """Number -> probability over all strings of one or two tokens, without a cache."""
    pieces = token_bytes(processor.tokenizer)
    digits = [token for token, piece in pieces.items() if set(piece) <= set(b" -.0123456789")]
    strings = [[first] for first in digits] + [[first, second] for first in digits for second in digits]
    found: dict[float, float] = {}
    for count in (1, 2):
        some = [tokens for tokens in strings if len(tokens) == count]
        longer = torch.cat([ids.expand(len(some), -1), torch.tensor(some)], dim=1)
        seen = torch.cat([mask.expand(len(some), -1), torch.ones(len(some), count, dtype=torch.int64)], dim=1)
        chances = model(input_ids=longer, attention_mask=seen).logits[:, len(ids) - 1 :].double().softmax(-1)
        for place, tokens in enumerate(some):
            text = b"".join(pieces[token] for token in tokens).removeprefix(b" ")
            if re.fullmatch(rb"-?[0-9]+([.][0-9]+)?", text):
                steps = [float(chances[place, step, token]) for step, token in enumerate(tokens)]
                following = [one for one in digits if re.fullmatch(rb"-?[0-9]+([.][0-9]*)?", text + pieces[one])]
                ended = 1 - float(chances[place, -1, following].sum())
                found[float(text)] = found.get(float(text), 0.0) + math.prod(steps) * ended
    return found


def test_the_written_number_is_the_median(tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny
    seen: list[dict[float, float]] = []

    def spy(strings: dict[float, float]) -> float:
        seen.append(strings)
        return weighted_median(strings)

    monkeypatch.setattr("phisight.generate.number_decoding.weighted_median", spy)
    monkeypatch.setattr("phisight.generate.number_decoding.LEAST_MASS", 0.0)  # an untrained model believes in nothing
    writer = number_writer("expected", LAST, processor.tokenizer)
    assert isinstance(writer, ExpectedNumbers)
    options: dict[str, Any] = {"batch_size": 4, "max_new_tokens": 40, "grammar": constrained(tiny)}
    plain = dict(Predictor(model, processor, **options).answers(requests()))
    found = dict(Predictor(model, processor, numbers=writer, **options).answers(requests()))
    numbers = {LAST.parse(text).values["price"] for text in found.values()}  # type: ignore[index]
    assert numbers == {weighted_median(strings) for strings in seen}
    assert len(seen) == 4
    for index, text in found.items():
        assert text.split(", Price:")[0] == plain[index].split(", Price:")[0], "only the number changes"


def test_answers_one_by_one_are_those_of_a_batch(tiny: tuple[Any, Any]) -> None:
    model, processor = tiny
    texts = [
        dict(
            Predictor(
                model,
                processor,
                batch_size=size,
                max_new_tokens=40,
                grammar=constrained(tiny),
                numbers=ExpectedNumbers(LAST, processor.tokenizer),
            ).answers(requests())
        )
        for size in (1, 4)
    ]
    assert texts[0] == texts[1]


def test_the_head_s_number_is_read_where_it_was_trained(tiny: tuple[Any, Any]) -> None:
    model, processor = tiny
    torch.manual_seed(5)
    head = NumberHead.fit(model.config.hidden_size, {"price": [float(10 * one) for one in range(1, 200)]})
    torch.nn.init.normal_(head.outer.weight, std=0.1)
    attach_head(model, head)
    seen: list[Generated] = []

    class Spy(HeadNumbers):
        def rewrite(self, model: Any, generated: Generated) -> list[Rewritten]:
            seen.append(generated)
            return super().rewrite(model, generated)

    writer = Spy(LAST, processor.tokenizer)
    options: dict[str, Any] = {"batch_size": 4, "max_new_tokens": 40, "grammar": constrained(tiny)}
    predictor = Predictor(model, processor, numbers=writer, **options)
    assert predictor.numbers == "head"
    answers = dict(predictor.answers(requests()))
    found = {LAST.parse(answers[index]).values["price"] for index in range(4)}  # type: ignore[index]
    assert found == {_by_hand(model, processor, seen[0], row) for row in range(4)}
    assert len(found) > 1
    attach_head(model, None)


def _by_hand(model: Any, processor: Any, generated: Generated, row: int) -> float:
    """One forward pass over prompt and answer up to the number."""
    place = generated.number_positions(LAST, token_bytes(processor.tokenizer), row)
    assert place is not None
    last = generated.inputs["input_ids"].shape[1] + place["price"]
    ids, mask = generated.ids[row : row + 1, :last], torch.ones(1, last, dtype=torch.int64)
    mask[:, : generated.inputs["attention_mask"].shape[1]] = generated.inputs["attention_mask"][row]
    images = {name: generated.inputs[name][row : row + 1] for name in ("pixel_values", "image_sizes")}
    head = head_of(model)
    assert head is not None
    with torch.no_grad():
        hidden = model.model(input_ids=ids, attention_mask=mask, **images).last_hidden_state[0, -1]
        return float(head.numbers(hidden[None], [0])[0])


def test_without_a_head_the_error_says_how_to_get_one(tiny: tuple[Any, Any]) -> None:
    model, processor = tiny
    predictor = Predictor(model, processor, numbers=HeadNumbers(LAST, processor.tokenizer))
    with pytest.raises(CheckpointError, match=r"train\.numbers=head"):
        list(predictor.answers(requests(1)))


def test_text_needs_no_writer(tiny: tuple[Any, Any]) -> None:
    assert number_writer("text", LAST, tiny[1].tokenizer) is None
    assert number_writer("digit_weighted", LAST, tiny[1].tokenizer) is None
    without = Task(answer="It is {title}", fields={"title": "text"})
    assert number_writer("head", without, tiny[1].tokenizer) is None


def spelled(*texts: str) -> tuple[DigitSearch, Any]:
    """A search over single characters, and a model that writes one of the texts, each as probable as the other."""
    pieces = {ord(character): character.encode() for character in "0123456789.- kgx"}
    pad, end = 0, 1

    class Writes(torch.nn.Module):
        before: torch.Tensor | None = None

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
            logits = torch.full((*input_ids.shape, 128), -30.0)
            rows = torch.cat([self.before, input_ids], dim=1) if self.before is not None else input_ids
            for row, ids in enumerate(rows.tolist()):
                written = "".join(chr(token) for token in ids if token > 1)
                for text in texts:
                    if text.startswith(written):
                        logits[row, -1, ord(text[len(written)]) if len(written) < len(text) else end] = 0.0
            self.before = rows
            return SimpleNamespace(logits=logits, past_key_values=self)

        def batch_select_indices(self, indices: torch.Tensor) -> None:
            assert self.before is not None
            self.before = self.before[indices]

    return DigitSearch(pieces, pad, width=16, floor=1e-4), Writes()


@pytest.mark.parametrize("behind", ["", ".", " kg", "-", " - x", ". x", "x", "-5", "0 x", "00 x", " 5 x"])
@pytest.mark.parametrize("number", ["12", "12.5", "-3", "0.25"])
def test_the_template_s_text_ends_a_number(number: str, behind: str) -> None:
    """Also where it starts like a part of one; the whole probability belongs to the number."""
    search, model = spelled(number + behind)
    ids = torch.tensor([[0]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    (found,) = search.strings(model, inputs, ids, {0: 1}, behind=behind).values()
    assert found == {float(number): pytest.approx(1.0, abs=1e-6)}


def test_two_numbers_share_the_probability() -> None:
    search, model = spelled("12.", "13.5.")
    ids = torch.tensor([[0]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    (found,) = search.strings(model, inputs, ids, {0: 1}, behind=".").values()
    likely = {number: probability for number, probability in found.items() if probability > 1e-6}
    assert likely == {12.0: pytest.approx(0.5, abs=1e-6), 13.5: pytest.approx(0.5, abs=1e-6)}


def test_too_little_probability_is_an_answer_that_is_not_read(tiny: tuple[Any, Any]) -> None:
    """In batches as in continuous batching; the digits stay as they are, and no median is made up."""
    model, processor = tiny
    options: dict[str, Any] = {"max_new_tokens": 40, "grammar": constrained(tiny)}
    writer = ExpectedNumbers(LAST, processor.tokenizer, width=1, floor=0.9)
    plain = dict(Predictor(model, processor, batch_size=4, **options).answers(requests()))
    found = dict(Predictor(model, processor, batch_size=4, numbers=writer, **options).generations(requests()))
    assert {index: one.text for index, one in found.items()} == plain
    every = [one.unread for one in found.values()]
    scheduler = Scheduler(model, processor, max_sequences=4, numbers=writer, **options)
    completions = list(scheduler.run(enumerate(requests())))
    every += [one.unread for one in completions]
    assert len(every) == 8
    assert all(why is not None and "'price' has no median: 100% of the probability" in why for why in every)
    assert not any(AnswerReader(LAST).read(one).ok for one in completions)


@pytest.mark.parametrize("numbers", [(1, 1, 1), (2, 1, 3), (0, 2, 1)])
def test_every_row_keeps_its_own_images(tiny: tuple[Any, Any], numbers: tuple[int, ...]) -> None:
    """``expected`` with several images a row: a batch answers as each request alone."""
    model, processor = tiny
    writer = ExpectedNumbers(LAST, processor.tokenizer)
    noise = np.random.default_rng(1).integers(0, 256, (6, 112, 112, 3), dtype=np.uint8)
    images = iter([Image.fromarray(one) for one in noise])
    asked = [Request(LAST.prompt, [next(images) for _ in range(count)]) for count in numbers]
    options: dict[str, Any] = {"max_new_tokens": 40, "grammar": constrained(tiny), "numbers": writer}
    together = dict(Predictor(model, processor, batch_size=3, **options).answers(asked))
    alone = dict(Predictor(model, processor, batch_size=1, **options).answers(asked))
    assert together == alone
