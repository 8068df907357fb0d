"""What the model answered, row by row; predictions_file.py writes it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from phisight.core.kinds.kind import as_number
from phisight.core.task import FieldValue, Task
from phisight.evaluate.image_conditions import Images
from phisight.evaluate.metrics import row_error
from phisight.evaluate.rows import EvalRow


@dataclass(frozen=True)
class Predictions:
    """Truth and answers of the same rows; every list has one entry a row."""

    task: Task
    images: Images
    rows: Sequence[EvalRow]
    shown: Sequence[int | None]
    answers: Sequence[str | None]
    """What the model wrote; none where the image could not be used."""
    parsed: Sequence[Mapping[str, FieldValue] | None]
    """Fields read from the answer; none where they could not be read."""
    reasons: Sequence[str | None]
    """Why they could not be read."""
    written: Sequence[str | None] = ()
    """The text as generated, where a number strategy changed it; empty: it changed none."""
    medians: Mapping[str, float] = field(default_factory=dict)
    """Median of each number field over the training rows, where it is known; see ``typical``."""
    confidences: Sequence[Mapping[str, float] | None] = ()
    """Sequence probability of each field, 0 to 1; none where it is not known, and empty where it is of no row."""

    @classmethod
    def of(
        cls,
        task: Task,
        rows: Sequence[EvalRow],
        images: Images,
        shown: Sequence[int | None],
        answers: Mapping[int, str],
        failures: Mapping[int, str],
        *,
        unread: Mapping[int, str] | None = None,
        written: Mapping[int, str] | None = None,
        medians: Mapping[str, float] | None = None,
        confidences: Mapping[int, Mapping[str, float]] | None = None,
    ) -> Predictions:
        """Parse answers by row; a row without one has a failure.

        ``unread`` says why nothing is to be read from some answers: they were cut, so that their last number may lack
        its last digits, or no number could be decided. What equals the truth of the row, or of the one whose image was
        shown, is stored once: 100,000 rows with five image conditions are mostly that.
        """
        texts: list[str | None] = []
        parsed: list[Mapping[str, FieldValue] | None] = []
        reasons: list[str | None] = []
        for row, other in enumerate(shown):
            text = answers.get(row)
            found, why = _read(task, text, (unread or {}).get(row)) if text is not None else (None, failures[row])
            for known in (rows[one] for one in (row, other) if one is not None):
                text = known.expected if text == known.expected else text
                found = known.truth if found == known.truth else found
            texts.append(text)
            parsed.append(found)
            reasons.append(sys.intern(why) if why else None)
        as_written = [written.get(row) for row in range(len(rows))] if written else []
        sure = [confidences.get(row) for row in range(len(rows))] if confidences else []
        return cls(task, images, rows, shown, texts, parsed, reasons, as_written, dict(medians or {}), sure)

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, indices: Sequence[int]) -> Predictions:
        """Of some rows; ``shown`` still counts in all rows."""
        return Predictions(
            self.task,
            self.images,
            [self.rows[index] for index in indices],
            [self.shown[index] for index in indices],
            [self.answers[index] for index in indices],
            [self.parsed[index] for index in indices],
            [self.reasons[index] for index in indices],
            [self.written[index] for index in indices] if self.written else (),
            self.medians,
            [self.confidences[index] for index in indices] if self.confidences else (),
        )

    def read_with_confidence(self) -> Iterator[tuple[int, Mapping[str, FieldValue], Mapping[str, float]]]:
        """Index, fields and sequence probability of each field of the rows of which both are known."""
        for row, (values, sure) in enumerate(zip(self.parsed, self.confidences or [None] * len(self), strict=True)):
            if values is not None and sure is not None:
                yield row, values, sure

    def as_written(self) -> Predictions:
        """The same answers with the numbers as the text itself has them, which other programs will see."""
        texts = [own or text for own, text in zip(self.written or self.answers, self.answers, strict=True)]
        parsed: list[Mapping[str, FieldValue] | None] = []
        for text, values in zip(texts, self.parsed, strict=True):
            if text is not None and values is not None and any(value is not None for value in values.values()):
                values = _read(self.task, text, None)[0]
            parsed.append(values)
        return replace(self, answers=texts, parsed=parsed, written=())

    @cached_property
    def groups(self) -> list[str]:
        """The group of each row: rows of one product are one observation."""
        return [row.group or row.key for row in self.rows]

    def typical(self, name: str) -> float:
        """The number an unanswered row may count as: the median of the training rows, else of the true values."""
        if self.task.fields[name].kind != "number":
            return 0.0
        known = [as_number(value) for value in self.truth(name) if value is not None]
        return self.medians.get(name, float(np.median(known)) if known else 0.0)

    @property
    def parse_rate(self) -> float:
        """Share of the rows whose answer could be read."""
        return sum(values is not None for values in self.parsed) / len(self.rows)

    def reason_counts(self) -> dict[str, int]:
        """Why answers could not be read, most frequent first; what was found in them is left out."""
        short = [reason.split(": ")[0] for reason in self.reasons if reason]
        return dict(Counter(short).most_common())

    def truth(self, name: str) -> list[FieldValue]:
        """True values of a field."""
        return [row.truth[name] for row in self.rows]

    def predicted(self, name: str) -> list[FieldValue | None]:
        """Values of a field read from the answers."""
        return [values[name] if values is not None else None for values in self.parsed]

    def errors(self) -> list[float]:
        """How wrong each row is, from 0 to 1."""
        return [row_error(self.task, row.truth, values) for row, values in zip(self.rows, self.parsed, strict=True)]


def _read(task: Task, text: str, unread: str | None) -> tuple[Mapping[str, FieldValue] | None, str | None]:
    """Fields of an answer, or why there are none."""
    if unread is not None:
        return None, unread
    read = task.parse(text)
    return read.values, read.reason
