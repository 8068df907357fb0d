"""Requests with a decoding of their own share steps with others, and leave when they are cancelled."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from phisight.generate.constrained import AnswerGrammar
from phisight.generate.decoding.sampling import Decoding, choose
from phisight.generate.prepare import Prepared, Preparer
from phisight.generate.requests import Request
from phisight.generate.scheduler import Scheduler
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers import small_model


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    model = small_model.model().eval()
    model.generation_config.eos_token_id = []
    return model, small_model.processor()


def prepared(small: tuple[Any, Any], index: int, decoding: Decoding | None = None) -> Prepared:
    one = Preparer(small[1])(index, Request("Tell me." + " More." * (index % 3)))
    one.decoding = decoding
    return one


def answers(small: tuple[Any, Any], every: list[Prepared], most: int = 6) -> dict[int, Any]:
    scheduler = Scheduler(*small, max_sequences=8, max_new_tokens=most)
    found = scheduler.join(every)
    while scheduler.busy:
        found += scheduler.step()
    return {one.index: one for one in found}


def test_lengths_and_seeds_of_each(small: tuple[Any, Any]) -> None:
    """Whoever shares its steps: the same tokens."""
    sampled = Decoding(9, temperature=1.5, seed=4, top_logprobs=3)
    alone = answers(small, [prepared(small, 1, sampled)])[1]
    together = answers(
        small,
        [prepared(small, 0), prepared(small, 1, sampled), prepared(small, 2, Decoding(3)), prepared(small, 3, sampled)],
    )
    assert together[1].ids == alone.ids
    assert [len(together[index].ids) for index in range(4)] == [6, 9, 3, 9]
    assert together[0].ids == answers(small, [prepared(small, 0)])[0].ids
    assert [len(one) for one in together[1].alternatives] == [3] * 9
    assert together[0].alternatives == [[]] * 6
    for (best, value), *_ in answers(small, [prepared(small, 0, Decoding(6, top_logprobs=1))])[0].alternatives:
        assert value <= 0
        assert 0 <= best < small[0].config.vocab_size


def test_a_cancelled_request_frees_its_row_and_leaves_others_alone(small: tuple[Any, Any]) -> None:
    expected = answers(small, [prepared(small, index) for index in range(4)])
    scheduler = Scheduler(*small, max_sequences=4, max_new_tokens=6)
    found = scheduler.join([prepared(small, index) for index in range(4)])
    found += scheduler.step()
    assert {row.prepared.index for row in scheduler.writing} == {0, 1, 2, 3}
    scheduler.cancel({0, 2, 99})
    assert scheduler.free == 2
    found += scheduler.join([prepared(small, 5)])
    while scheduler.busy:
        found += scheduler.step()
    assert {one.index for one in found} == {1, 3, 5}
    assert all(one.ids == expected[one.index].ids for one in found if one.index != 5)
    scheduler.cancel({1})
    assert scheduler.free == 4


def test_each_row_has_its_own_language() -> None:
    from phisight.core.task import Task

    task = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})
    processor = tiny_processor([f"Name: A {n}, Price: {n}.5" for n in range(30)] * 3, vocab_size=400)
    model = tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=1), seed=3).eval()
    grammar = AnswerGrammar(task, processor.tokenizer, {}, model.generation_config.eos_token_id, max_text_tokens=5)
    pair = model, processor
    held = Decoding(60, grammar, temperature=1, seed=0)
    found = answers(pair, [prepared(pair, 0, held), prepared(pair, 1, Decoding(60))], most=60)
    assert task.parse(found[0].text).values
    assert not task.parse(found[1].text).values


@pytest.mark.slow
def test_the_share_of_samples_follows_the_probabilities() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    generator = torch.Generator().manual_seed(0)

    def shares(decoding: Decoding, never: tuple[int, ...] = ()) -> list[float]:
        drawn = [choose(logits, [None], [decoding], [generator], never)[0].token for _ in range(4000)]
        return [drawn.count(token) / len(drawn) for token in range(4)]

    for temperature in (0.5, 1.0, 2.0):
        expected = (logits[0] / temperature).softmax(-1).tolist()
        assert shares(Decoding(1, temperature=temperature)) == pytest.approx(expected, abs=0.03)
    kept = logits[0, :2].softmax(-1).tolist()
    assert shares(Decoding(1, temperature=1.0, top_p=0.7)) == pytest.approx([*kept, 0, 0], abs=0.03)
    assert shares(Decoding(1, temperature=1.0, top_p=0.6)) == [1, 0, 0, 0]
    assert shares(Decoding(1, temperature=1.0), never=(0,))[0] == 0


def test_log_probabilities_are_those_among_all_tokens() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 5.0, 1.0]])
    expected = logits.log_softmax(-1)
    first, second = choose(logits, [None, None], [Decoding(1, top_logprobs=2), None], [None, None], never=[0])
    assert first.token == 1
    assert first.log_probability == pytest.approx(float(expected[0, 1]), abs=1e-5)
    assert [token for token, _ in first.alternatives] == [0, 1]
    assert second.log_probability == pytest.approx(float(expected[1, 1]), abs=1e-5)
    assert second.alternatives == []
