"""Constrained answers: the package's own grammar against llguidance, on the tokenizer of the published model.

    pip install llguidance          into an environment of its own; phisight does not depend on it
    python benchmarks/grammars.py --tokenizer FOLDER [--answers 200] [--categories 50] [--json FILE]

Both are given the same rules: free text that never holds the literal behind it, one of the known categories, a number
with the digits of the training rows. Both follow the same answers token by token and say which tokens may come next.
Counted: time of a mask from cold and once the answers before have been seen, masks that differ, and, by walks that
choose any allowed token at random, answers that the task cannot read.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from phisight.core.task import Task
from phisight.generate import AnswerGrammar

WORDS = [
    "vintage",
    "check",
    "scarf",
    "wool",
    "silk",
    "leather",
    "crossbody",
    "bag",
    "striped",
    "cotton",
    "linen",
    "jacket",
    "quilted",
    "bucket",
    "hat",
]
DIGITS, DECIMALS = 4, 2
MOST_TOKENS = 120
NO_SPACE = r"[^ \x00-\x1f\x7f-\x9f\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""A character of a word, as reading sees it."""


@dataclass
class Timed:
    """What one engine took and said."""

    cold: float = 0.0
    warm: float = 0.0
    masks: int = 0
    allowed: list[NDArray[np.int64]] = field(default_factory=list)


def products(count: int, categories: list[str], seed: int = 0) -> list[str]:
    """True answers."""
    draw = random.Random(seed)
    rows = [
        {
            "title": " ".join(draw.choice(WORDS).title() for _ in range(draw.randint(2, 6))),
            "category3_code": draw.choice(categories),
            "full_price": round(draw.uniform(1, 9999), draw.randint(0, DECIMALS)),
        }
        for _ in range(count)
    ]
    return [Task().render(row) for row in rows]


def lark_of(categories: list[str]) -> str:
    """The same rules for llguidance: one regular expression, with what text must not hold taken out of it.

    As several lexemes it does not work: the greedy one of the text takes in the literal that ends it. Nor with a bound
    on the length of the text: "lexer error: too many expressions constructed" (1.9.1).
    """
    names = " | ".join(json.dumps(name) for name in categories)
    return rf"""
start: ANSWER
ANSWER: /[ ]?/ "Product: " TITLE ", Category: " CATEGORY ", Full Price: " NUMBER
TITLE: TEXT & ~/(?s:.*), Category:(?s:.*)/
TEXT: /{NO_SPACE}([ ]?{NO_SPACE})*/
CATEGORY: {names}
NUMBER: /(0|[1-9][0-9]{{0,{DIGITS - 1}}})(\.[0-9]{{1,{DECIMALS}}})?/
"""


def own(tokenizer: Any, categories: list[str]) -> AnswerGrammar:
    limits = {"full_price": (1.0, float(10**DIGITS - 1))}
    known = {"category3_code": categories}
    return AnswerGrammar(
        Task(), tokenizer, known, tokenizer.eos_token_id, ranges=limits, decimals={"full_price": DECIMALS}
    )


def follow_own(answers: list[list[int]], grammar: AnswerGrammar) -> Timed:
    found = Timed()
    for part in ("cold", "warm"):
        for ids in answers:
            row = grammar.row()
            for token in ids:
                begun = time.perf_counter()
                allowed = row.allowed()
                setattr(found, part, getattr(found, part) + time.perf_counter() - begun)
                if part == "cold":
                    found.allowed.append(np.sort(allowed.numpy()))
                    found.masks += 1
                row.advance(token)
    return found


def follow_llguidance(answers: list[list[int]], tokenizer: Any, lark: str) -> tuple[Timed, float]:
    import llguidance
    import llguidance.hf

    begun = time.perf_counter()
    known = llguidance.hf.from_tokenizer(tokenizer, n_vocab=len(tokenizer))
    made = time.perf_counter() - begun
    found = Timed()
    for part in ("cold", "warm"):
        for ids in answers:
            matcher = llguidance.LLMatcher(known, llguidance.LLMatcher.grammar_from_lark(lark))
            assert not matcher.is_error(), matcher.get_error()
            for token in ids:
                begun = time.perf_counter()
                bias = matcher.compute_logit_bias()
                setattr(found, part, getattr(found, part) + time.perf_counter() - begun)
                if part == "cold":
                    found.allowed.append(np.flatnonzero(np.frombuffer(bias, np.uint8)))
                    found.masks += 1
                assert matcher.consume_token(token), matcher.get_error()
    return found, made


def babble_own(grammar: AnswerGrammar, tokenizer: Any, count: int) -> list[str]:
    """Answers of a model that takes any allowed token: the number of them that cannot be read is the point."""
    draw, texts = random.Random(1), []
    for _ in range(count):
        row, ids = grammar.row(), []
        for _ in range(4 * MOST_TOKENS):
            token = draw.choice(row.allowed().tolist())
            if token in grammar.end_ids:
                break
            ids.append(token)
            row.advance(token)
        texts.append(tokenizer.decode(ids))
    return texts


def babble_llguidance(tokenizer: Any, lark: str, count: int) -> list[str]:
    import llguidance
    import llguidance.hf

    known = llguidance.hf.from_tokenizer(tokenizer, n_vocab=len(tokenizer))
    draw, texts = random.Random(1), []
    for _ in range(count):
        matcher = llguidance.LLMatcher(known, llguidance.LLMatcher.grammar_from_lark(lark))
        ids: list[int] = []
        for _ in range(4 * MOST_TOKENS):
            token = draw.choice(np.flatnonzero(np.frombuffer(matcher.compute_logit_bias(), np.uint8)).tolist())
            if token == tokenizer.eos_token_id or not matcher.consume_token(token):
                break
            ids.append(token)
        texts.append(tokenizer.decode(ids))
    return texts


def unread(texts: list[str], categories: list[str]) -> int:
    """Texts that the task cannot read, or that hold a category or number they should not."""
    wrong = 0
    for text in texts:
        values = Task().parse(text).values
        fits = values is not None and values["category3_code"] in categories
        wrong += not (fits and re.search(rf": \d{{1,{DIGITS}}}(\.\d{{1,{DECIMALS}}})?$", text))
    return wrong


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="folder or hub name")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--categories", type=int, default=50)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(chosen.tokenizer)
    categories = [f"{WORDS[number % len(WORDS)].upper()}S & MORE {number}" for number in range(chosen.categories)]
    answers = [[*tokenizer(text, add_special_tokens=False).input_ids] for text in products(chosen.answers, categories)]
    begun = time.perf_counter()
    grammar = own(tokenizer, categories)
    made = time.perf_counter() - begun
    ours = follow_own(answers, grammar)
    theirs, theirs_made = follow_llguidance(answers, tokenizer, lark_of(categories))
    pairs = [
        [set(one.tolist()) - {tokenizer.eos_token_id} for one in both]
        for both in zip(ours.allowed, theirs.allowed, strict=True)
    ]
    differ = sum(one != two for one, two in pairs)
    only_own, only_theirs = (sum(len(one - two) for one, two in side) for side in (pairs, [one[::-1] for one in pairs]))
    count = min(50, chosen.answers)
    report = {
        "vocabulary": len(tokenizer),
        "answers": len(answers),
        "masks": ours.masks,
        "own": _line(ours, made, unread(babble_own(grammar, tokenizer, count), categories)),
        "llguidance": _line(
            theirs, theirs_made, unread(babble_llguidance(tokenizer, lark_of(categories), count), categories)
        ),
        "masks_that_differ": differ,
        "allowed_by_own_alone": only_own,
        "allowed_by_llguidance_alone": only_theirs,
        "babbled": count,
    }
    print("| engine | to begin | a mask, cold | a mask, warm | cold over all answers | babbled answers not read |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("own", "llguidance"):
        one = report[name]
        print(
            f"| {name} | {one['begin_ms']:.0f} ms | {one['cold_us']:.0f} us | {one['warm_us']:.0f} us | "
            f"{one['cold_ms']:.0f} ms | {one['unread']} of {count} |"
        )
    print(
        f"\n{ours.masks} masks of {len(answers)} answers over {len(tokenizer)} tokens; {differ} differ: {only_own} "
        f"tokens are allowed by the own grammar alone, {only_theirs} by llguidance alone"
    )
    for one, two in [pair for pair in pairs if pair[0] != pair[1]][:3]:
        shown = [
            [tokenizer.convert_ids_to_tokens(token) for token in sorted(side)[:8]] for side in (one - two, two - one)
        ]
        print(f"  for instance own alone {shown[0]}, llguidance alone {shown[1]}")
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _line(timed: Timed, made: float, wrong: int) -> dict[str, float]:
    return {
        "begin_ms": 1e3 * made,
        "cold_us": 1e6 * timed.cold / timed.masks,
        "warm_us": 1e6 * timed.warm / timed.masks,
        "cold_ms": 1e3 * timed.cold,
        "unread": wrong,
    }


if __name__ == "__main__":
    main()
