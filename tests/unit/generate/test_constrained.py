"""Constrained answers: whatever the model prefers, the task can read what comes out."""

from __future__ import annotations

import gc
import random
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from phisight.core.errors import TaskError
from phisight.core.kinds.kind import known_values
from phisight.core.task import Task
from phisight.generate import AnswerGrammar, Predictor, Request
from phisight.generate.decoding.vocabulary import token_bytes
from phisight.generate.grammar import Grammar
from tests.helpers.fake_model import END, FakeModel, FakeProcessor, FakeTokenizer

CATEGORIES = {"category3_code": ["HATS", "HATS & CAPS", "SCARVES"]}
GRAMMAR = AnswerGrammar(Task(), FakeTokenizer(), CATEGORIES, END)


def accepted(grammar: Grammar, text: str) -> bool:
    return grammar.complete(grammar.walk(grammar.start, text.encode()))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Product: A, Category: HATS, Full Price: 470.0", True),
        (" Product: A, Category: HATS, Full Price: 470", True),
        ("Product: Schürze, 2 Stück, Category: HATS & CAPS, Full Price: -0.5", True),
        ("Product: A, Category: HAT, Full Price: 470.0", False),
        ("Product: , Category: HATS, Full Price: 470.0", False),
        ("Product: A, Category: X, Category: HATS, Full Price: 1.0", False),
        ("Product: A,  Category: HATS, Full Price: 1.0", False),
        ("Product: A,\u00a0Category: X, Category: HATS, Full Price: 1.0", False),
        ("Product: A, Category: HATS, Full Price: 1.", False),
        ("Product: A, Category: HATS, Full Price: 01.0", False),
        ("Product: A, Category: HATS, Full Price: ", False),
        ("Product: A, Category: HATS", False),
        ("Product: A, Category: HATS, Full Price: 1.0 and more", False),
    ],
)
def test_which_texts_fit(text: str, fits: bool) -> None:
    assert accepted(GRAMMAR.grammar, text) is fits


@pytest.mark.parametrize("behind", [".", "-", ")", ". ", " EUR."])
@pytest.mark.parametrize("price", [12.5, -0.25, 1200.0])
def test_the_literal_behind_the_last_number_may_be_a_part_of_numbers(price: float, behind: str) -> None:
    """The point of 12.50 does not end the answer where a point ends the template, and the last one does."""
    task = Task.model_validate({"answer": "It costs {price}" + behind, "fields": {"price": "number"}})
    text = task.render({"price": price})
    grammar = Grammar.of_known(task)
    assert accepted(grammar, text)
    assert not accepted(grammar, text.removesuffix(behind))


@pytest.mark.parametrize(
    ("decimals", "text", "fits"), [(0, "13", True), (0, "13.0", False), (2, "13.25", True), (2, "13.2", False)]
)
def test_numbers_have_the_decimals_of_the_task(decimals: int, text: str, fits: bool) -> None:
    task = Task(answer="{price}", fields={"price": {"kind": "number", "decimals": decimals}})
    assert accepted(Grammar.of_known(task), text) is fits


@pytest.mark.parametrize(
    ("known", "text", "fits"),
    [
        ((18.0, 99.0), "99.99", True),
        ((18.0, 99.0), "100", False),
        ((18.0, 99.0), "-5", False),
        ((-120.0, 7.0), "-999", True),
        ((-120.0, 7.0), "1000", False),
        ((0.25, 0.75), "0.5", True),
        ((0.25, 0.75), "10", False),
    ],
)
def test_numbers_look_like_the_known_ones(known: tuple[float, float], text: str, fits: bool) -> None:
    task = Task(answer="{price}", fields={"price": {"kind": "number"}})
    assert accepted(Grammar.of_known(task, known_values({}, {"price": known})), text) is fits


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_a_model_that_babbles_still_writes_readable_answers(seed: int) -> None:
    draw = random.Random(seed)
    processor, ids = GRAMMAR.processor(0), torch.zeros(1, 0, dtype=torch.int64)
    for _ in range(400):
        scores = processor(ids, torch.tensor([[draw.random() for _ in range(259)]]))
        token = scores.argmax(-1)
        if token.item() == END:
            break
        ids = torch.cat([ids, token[None]], dim=1)
    text = bytes(ids[0].tolist()).decode()
    parsed = Task().parse(text)
    assert parsed.values, (parsed.reason, text)
    assert parsed.values is not None
    assert parsed.values["category3_code"] in CATEGORIES["category3_code"]


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12),
    st.sampled_from(CATEGORIES["category3_code"]),
    st.decimals(0, 99999, places=2),
)
def test_true_answers_stay_possible(title: str, category: str, price: object) -> None:
    row = {"title": title, "category3_code": category, "full_price": float(str(price))}
    assert accepted(GRAMMAR.grammar, Task().render(row))


@pytest.mark.parametrize("most", [8, 1024])
def test_masks_of_many_rows_are_those_of_each(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are kept, and whatever the rows are together with."""
    monkeypatch.setattr("phisight.generate.constrained.MOST_MASKS", most)
    grammar, draw = AnswerGrammar(Task(), FakeTokenizer(), CATEGORIES, END, max_text_tokens=5), random.Random(0)
    rows = [grammar.row() for _ in range(6)]
    for _ in range(60):
        masks = grammar.masks([row.states for row in rows], 259, torch.device("cpu"))
        for mask, row in zip(masks, rows, strict=True):
            assert mask.nonzero()[:, 0].tolist() == sorted(set(row.allowed().tolist()))
            row.advance(draw.choice(row.allowed().tolist()))
        rows = [grammar.row() if row.allowed().tolist() == [END] else row for row in rows]


def test_rows_of_a_batch_are_held_to_the_template_each_on_its_own() -> None:
    answers = {10: "Product: Red, Category: HATS, Full Price: 1.0", 20: "Sorry, I cannot tell."}
    model = FakeModel(lambda red, green, blue: answers[red])
    predictor = Predictor(model, FakeProcessor(), grammar=GRAMMAR, max_new_tokens=200)
    requests = [Request("What?", [Image.new("RGB", (4, 4), (red, 0, 0))]) for red in answers]
    got = dict(predictor.answers(requests))
    assert got[0] == answers[10]
    assert Task().parse(got[1]).values


def test_a_category_without_known_values_is_named() -> None:
    with pytest.raises(TaskError, match="no values are known for the category field 'category3_code'"):
        AnswerGrammar(Task(), FakeTokenizer(), {}, END)


def sentencepiece_like() -> PreTrainedTokenizerFast:
    names = [
        "<unk>",
        "<|end|>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        *"ProductHAS:",
        "Pr",
        "\u2581Pr",
    ]
    vocabulary = {name: token for token, name in enumerate(dict.fromkeys(names))}
    merges = [("P", "r"), ("\u2581", "Pr")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|end|>")


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["Product Category Full Price HATS"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.mark.parametrize("make", [sentencepiece_like, byte_level])
def test_tokens_of_real_tokenizers_are_their_bytes(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    known = token_bytes(tokenizer)
    text = "Product: Schürze 裙, Category: HATS, Full Price: 12.5"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert b"".join(known[token] for token in ids).decode().strip() == text
    assert tokenizer.eos_token_id not in known


def test_a_token_that_was_added_to_the_vocabulary_is_no_word() -> None:
    """The published tokenizer does not call "</s>" special, and writes it out as text."""
    tokenizer = sentencepiece_like()
    tokenizer.add_tokens(["</s>"])
    answers = AnswerGrammar(Task(), tokenizer, CATEGORIES, tokenizer.eos_token_id)
    states = answers.grammar.walk(answers.grammar.start, b"Product: A")
    allowed = set(answers.allowed(states).tolist())
    assert tokenizer.convert_tokens_to_ids("</s>") not in allowed
    assert {tokenizer.convert_tokens_to_ids(name) for name in ("<0x3C>", "Pr")} <= allowed


def test_the_bytes_of_a_vocabulary_are_computed_once_and_anew_where_it_changed() -> None:
    tokenizer = sentencepiece_like()
    known = token_bytes(tokenizer)
    assert token_bytes(tokenizer) is known
    tokenizer.add_tokens(["HATS"])
    assert b"HATS" in set(token_bytes(tokenizer).values()) - set(known.values())
    tokenizer.add_special_tokens({"pad_token": "HATS"})
    assert token_bytes(tokenizer) == known, "as many tokens as before, one of them special now"


def test_a_tokenizer_that_is_gone_leaves_no_bytes_behind() -> None:
    tokenizer = sentencepiece_like()
    token_bytes(tokenizer)
    left = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert left() is None
