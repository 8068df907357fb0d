"""Greedy answers of every recorded case, with and without the cache, on both attention implementations."""

import pytest
import torch
from torch import Tensor

from tests.helpers import official

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)

END_OF_TEXT = 32000
GENERATED = [case_id for case_id in official.case_ids() if "generated" in official.load_case(case_id).tensors]
WITHOUT_CACHE = [case_id for case_id in GENERATED if "generated_nocache" in official.load_case(case_id).tensors]
SLOW_EAGERLY = 500
"""Tokens from which a greedy run without cache is left to sdpa: each step computes everything anew."""
MIXED_CACHE = [
    case_id for case_id in WITHOUT_CACHE if official.entry(case_id)["generated_equal_with_and_without_cache"] is False
]
"""Phi-3 keeps keys under the short rotary factors and turns new ones with the long factors; phisight starts the cache
anew, so that the cache changes nothing."""


def generate(case_id: str, attention: str, use_cache: bool) -> Tensor:
    """New tokens, as the recorded ones were made: end id 32000 only, no token held back."""
    case = official.load_case(case_id)
    model, processor = official.load_model(case_id, attention)
    batch = case.encode(processor)
    steps = case.tensors["generated"].shape[1]
    answers: Tensor = model.generate(
        **batch,
        max_new_tokens=steps,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=END_OF_TEXT,
        suppress_tokens=None,
    )
    return answers[:, batch["input_ids"].shape[1] :]


@pytest.mark.parametrize("attention", official.ATTENTION)
@pytest.mark.parametrize("case_id", GENERATED)
def test_answers_with_the_cache(case_id: str, attention: str) -> None:
    case = official.load_case(case_id)
    expected = case.tensors["generated_nocache" if case_id in MIXED_CACHE else "generated"]
    assert generate(case_id, attention, use_cache=True).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("case_id", "attention"),
    [
        (case_id, attention)
        for case_id in WITHOUT_CACHE
        for attention in official.ATTENTION
        if attention == "sdpa" or official.entry(case_id)["seq_len"] < SLOW_EAGERLY
    ],
)
def test_answers_without_the_cache(case_id: str, attention: str) -> None:
    expected = official.load_case(case_id).tensors["generated_nocache"]
    assert generate(case_id, attention, use_cache=False).tolist() == expected.tolist()


@pytest.mark.parametrize("case_id", MIXED_CACHE)
def test_the_official_mixed_cache_gives_other_answers(case_id: str) -> None:
    stored = official.load_case(case_id).tensors
    assert not torch.equal(stored["generated"], stored["generated_nocache"])


def test_which_cases_have_a_mixed_cache() -> None:
    assert {official.entry(case_id)["model"] for case_id in MIXED_CACHE} == {"tiny-phi3v"}
    assert len(MIXED_CACHE) == 3
