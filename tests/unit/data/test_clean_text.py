"""Texts of real shops: what is repaired, what is said, and what stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phisight.core.errors import TaskError
from phisight.core.task import checked_prompt, special_tokens_in
from phisight.data.values.clean_text import REMARKS, clean_text


@pytest.mark.parametrize(
    ("raw", "clean", "changes"),
    [
        ("EverCool&trade; Shirt", "EverCool™ Shirt", ("entities",)),
        ("EverCool&amp;trade;", "EverCool™", ("entities",)),
        ("Men&#39;s &#x2013; L", "Men's – L", ("entities",)),
        ("AT&T R&D &copy &notathing; a < b > c", "AT&T R&D &copy &notathing; a < b > c", ()),
        ("<p>Soft <b>wool</b></p><br/>", "Soft wool", ("markup",)),
        ("&lt;b&gt;Sale&lt;/b&gt;", "Sale", ("entities", "markup")),
        ("<script>alert(1)</script>Hat", "Hat", ("markup",)),
        ("Hat <!-- hidden --> red", "Hat red", ("markup",)),
        ("caf\x92s", "caf’s", ("controls",)),
        ("red\x1b[31m hat\x1b[0m", "red hat", ("escapes",)),
        ("\x1b]0;title\x07Hat", "Hat", ("escapes",)),
        ("ha\x00t", "hat", ("controls",)),
        ("smile \ud83d", "smile", ("surrogates",)),
        ("smile \ud83d\ude00", "smile 😀", ("surrogates",)),
        ("one\r\ntwo", "one two", ("lines",)),
        ("one\u2028two", "one two", ("controls",)),
        ("  a   b ", "a b", ()),
        ("పేరు 한국어 العربية é e\u0301 👩\u200d👩\u200d👧", "పేరు 한국어 العربية é e\u0301 👩\u200d👩\u200d👧", ()),
    ],
)
def test_a_text_is_repaired(raw: str, clean: str, changes: tuple[str, ...]) -> None:
    assert clean_text(raw) == (clean, changes)
    assert set(changes) <= set(REMARKS)


@given(st.text(alphabet=st.characters(), max_size=60))
def test_what_comes_out_can_be_written_and_is_stable(raw: str) -> None:
    clean = clean_text(raw).text
    clean.encode("utf-8")
    assert "\x1b" not in clean
    assert "\n" not in clean
    assert clean_text(clean).text == clean


@given(st.text(alphabet="<|>sendimag_1/ ", max_size=40))
def test_a_special_token_does_not_appear_by_cleaning(raw: str) -> None:
    if not special_tokens_in(raw):
        assert not special_tokens_in(clean_text(raw).text)


@pytest.mark.parametrize(
    "text",
    ["a <|end|>", "<|image_1|>", "<|image_12|> x", "<|user|>", "<|assistant|>", "<s>", "</s>", "<|endoftext|>",
     "<image>", "<|placeholder39|>", "<unk>", "<|im_start|>", "<|vision_start|>", "[INST]"],
)  # fmt: skip
def test_special_tokens_are_found(text: str) -> None:
    assert len(special_tokens_in(text)) == 1


@pytest.mark.parametrize("text", ["a < b | c > d", "<b>", "s", "|end|", "<3", "<|>", "<| end |>", "A|B <sale>"])
def test_other_text_is_none(text: str) -> None:
    assert not special_tokens_in(text)


@pytest.mark.parametrize("prompt", ["What is this?", "<|image_1|>\nWhat is this?", " <|image_1|> What is this?"])
def test_the_place_of_the_image_is_taken_as_such(prompt: str) -> None:
    assert checked_prompt(prompt).strip() == "What is this?"


@pytest.mark.parametrize("prompt", ["<image>\nWhat?", "What?<|end|>", "What <|image_1|> is?", "<|image_2|>\nWhat?"])
def test_a_prompt_with_special_tokens_is_refused(prompt: str) -> None:
    with pytest.raises(TaskError, match="write the question alone"):
        checked_prompt(prompt)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(TaskError, match="asks nothing"):
        checked_prompt("<|image_1|>\n")
