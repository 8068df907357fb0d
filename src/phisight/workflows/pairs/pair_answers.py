"""Sampled answers compared: with the truth of a row, or, without one, with what most of them say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from phisight.core.errors import TaskError
from phisight.core.task import FieldValue, Task, special_tokens_in
from phisight.evaluate import EvalRow
from phisight.evaluate.metrics import is_right

WHOLE = "{answer}"
"""Stands for the field of a pair whose rejected answer cannot be read; no field can have braces in its name."""


class Consensus(NamedTuple):
    """What most answers to one image say."""

    values: dict[str, FieldValue]
    """Of each field the value that most answers agree with."""
    agreed: frozenset[str]
    """Fields in which enough of them do."""


def consensus(task: Task, answers: Sequence[str], agreement: float) -> Consensus | None:
    """The majority of each field over all answers, of which one that cannot be read agrees with nothing.

    A number agrees with those within a tenth of it. None where no answer can be read.
    """
    read = [values for values in (task.parse(answer).values for answer in answers) if values is not None]
    if not read:
        return None
    found: dict[str, FieldValue] = {}
    agreed = set()
    for name in task.names:
        given = [values[name] for values in read]
        votes = {str(one): (sum(is_right(task, name, one, other) for other in given), one) for one in given}
        _, (count, found[name]) = min(votes.items(), key=lambda one: (-one[1][0], one[0]))
        if count >= agreement * len(answers):
            agreed.add(name)
    return Consensus(found, frozenset(agreed))


def wrong_values(task: Task, row: EvalRow, answer: str) -> dict[str, FieldValue] | None:
    """The fields that an answer has wrong, with its values; None where it cannot be read."""
    values = task.parse(answer).values
    if values is None:
        return None
    return {name: value for name, value in values.items() if not is_right(task, name, row.truth[name], value)}


def rejected_answers(
    task: Task, row: EvalRow, answers: Sequence[str], fields: Collection[str] | None = None
) -> tuple[dict[str, tuple[str, int]], int]:
    """By field the answer that is wrong in it alone, and how often the model gave that value; then unwritable values.

    Under ``WHOLE`` stands the most frequent answer that is not in the task's form, where it can be trained on. With
    ``fields``, only of these.
    """
    wrong: dict[str, Counter[Any]] = {}
    for answer in answers:
        found, text = wrong_values(task, row, answer), answer.strip()
        if found is None and text and not special_tokens_in(text):
            wrong.setdefault(WHOLE, Counter())[text] += 1
        for name, value in (found or {}).items():
            wrong.setdefault(name, Counter())[value] += 1
    rejected, unwritable = {}, 0
    for name, counted in wrong.items():
        if fields is not None and name not in fields:
            continue
        value, times = min(counted.items(), key=lambda one: (-one[1], str(one[0])))
        try:
            text = value if name == WHOLE else task.render({**row.truth, name: value})
        except TaskError:
            unwritable += 1
            continue
        if text != row.expected:
            rejected[name] = (text, times)
    return rejected, unwritable
