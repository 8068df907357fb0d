"""One answer as fields: a dict with what is known about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phisight.core.task import Task
from phisight.extraction.familiarity import Familiarity
from phisight.generate.completions import Completion
from phisight.generate.confidence import field_confidences, overall


class Answer(dict[str, Any]):
    """Fields by name; empty where the answer could not be read or the image could not be used.

    Text and categories are str, numbers float, integers int, dates datetime.date, booleans bool, lists list of str;
    None where an optional field has no value, and in all fields where the image is refused.

    Attributes:
        text: What the model wrote, with its numbers, of a refused image, too; empty without an answer.
        confidence: For each field how probable it is to be right, 0 to 1 (calibrated on validation rows where the model
            brings that); empty where nothing is known.
        interval: For each number field the ends of its interval; empty where the model brings none.
        unfamiliar: How unlike the training images the image is; above 1 it is less familiar than nearly all validation
            images, and refused where the task may abstain. None where the model does not bring what it takes.
        error: Why there are no fields; None where there are.
        task: Whose fields these are.
    """

    def __init__(
        self,
        fields: Mapping[str, Any] | None = None,
        *,
        text: str = "",
        confidence: Mapping[str, float] | None = None,
        interval: Mapping[str, tuple[float, float]] | None = None,
        unfamiliar: float | None = None,
        error: str | None = None,
        task: Task | None = None,
    ) -> None:
        super().__init__(
            {name: list(value) if isinstance(value, tuple) else value for name, value in (fields or {}).items()}
        )
        self.text = text
        self.confidence = dict(confidence or {})
        self.interval = dict(interval or {})
        self.unfamiliar = unfamiliar
        self.error = error
        self.task = task

    @property
    def ok(self) -> bool:
        """Whether there are fields."""
        return self.error is None

    @property
    def overall_confidence(self) -> float | None:
        """Confidence in the least certain field; None where nothing is known."""
        return overall(self.confidence) if self.confidence else None

    @property
    def is_unfamiliar(self) -> bool:
        """Whether the image is less familiar than the threshold allows; False where nothing is known."""
        return self.unfamiliar is not None and self.unfamiliar > 1

    @property
    def is_refused(self) -> bool:
        """Whether a field that every row has is not shown: the model says so, or the image is too unfamiliar."""
        needed = () if self.task is None else self.task.needed
        return self.ok and any(self[name] is None for name in needed)

    def json(self) -> dict[str, Any]:
        """The fields as JSON holds them: a date as text. ``Extractor.schema`` is the schema."""
        return dict(self) if self.task is None else self.task.as_json(self)

    def __repr__(self) -> str:
        return super().__repr__() if self.ok else f"Answer(error={self.error!r})"


@dataclass(frozen=True)
class AnswerReader:
    """Texts to answers."""

    task: Task
    bounds: Mapping[str, Callable[[float], tuple[float, float]]] = field(default_factory=dict)
    """For each number field with an interval: number -> lower and upper end."""
    calibrations: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    """For each calibrated field: sequence probability -> share of such answers that were right."""
    familiarity: Familiarity | None = None
    """Scores how unfamiliar images are; None without what was fitted on training images."""

    def read(self, completion: Completion) -> Answer:
        """The fields of a completion; one that is not to be read (it was cut, say) has none.

        Where answers may abstain, an image above the threshold of ``unfamiliar`` has no value in any field, whatever
        the model wrote.
        """
        if completion.unread is not None:
            answer = Answer(text=completion.text, error=f"not read: {completion.unread}")
        else:
            raw = field_confidences(self.task, completion.written, completion.pieces, completion.log_probabilities)
            answer = self.answer(completion.text, raw or {})
        if self.familiarity is not None and completion.pooled is not None:
            answer.unfamiliar = self.familiarity.score(completion.pooled.numpy())
            if answer.ok and answer.is_unfamiliar and self.task.abstains:
                nothing = dict.fromkeys(self.task.names)
                return Answer(nothing, text=answer.text, unfamiliar=answer.unfamiliar, task=self.task)
        return answer

    def answer(self, text: str, raw: Mapping[str, float]) -> Answer:
        """The fields of a text whose fields have these sequence probabilities."""
        parsed = self.task.parse(text)
        if parsed.values is None:
            return Answer(text=text, error=f"not read: {parsed.reason}")
        confidence = {name: self.calibrations.get(name, _as_it_is)(value) for name, value in raw.items()}
        interval = {
            name: bounds(float(value))
            for name, bounds in self.bounds.items()
            if isinstance(value := parsed.values.get(name), int | float)
        }
        return Answer(parsed.values, text=text, confidence=confidence, interval=interval, task=self.task)


def interpolation(points: Sequence[float], values: Sequence[float]) -> Callable[[float], float]:
    """The function that goes straight from each point to the next, and stays level beyond the ends."""
    import numpy as np

    def at(point: float) -> float:
        return float(np.interp(point, points, values))

    return at


def _as_it_is(value: float) -> float:
    return value
