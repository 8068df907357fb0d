"""``task.json``: what a model folder is asked, how its answers are read, and what is known of their reliability.

{"format": "phisight-task/1", "task": {"prompt", "answer", "fields"}, "numbers": "head", "images": 1,
 "max_new_tokens": 96, "constrained": false, "categories": {...}, "ranges": {...}, "decimals": {...},
 "intervals": {"full_price": {"level", "radius", "logarithmic", "rows"}}, "calibration": {"title": {...}}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phisight.core.errors import CheckpointError, PhisightError
from phisight.core.read_files import read_object
from phisight.core.run_folder import write_text_atomically
from phisight.core.settings import Numbers
from phisight.core.task import Task
from phisight.data.dataset.answer_limits import AnswerLimits

TASK_FILE = "task.json"


class NumberInterval(BaseModel):
    """How wide the interval around an answered number is (split conformal prediction)."""

    model_config = ConfigDict(extra="forbid")

    level: float
    """Share of the rows whose true number an interval holds."""
    logarithmic: bool
    """Whether ``radius`` is a distance of logarithms."""
    radius: float
    rows: int
    """Validation rows that it was fitted on."""


class FieldCalibration(BaseModel):
    """A raw sequence probability to the share of validation answers with it that were right."""

    model_config = ConfigDict(extra="forbid")

    raw: list[float]
    """Sequence probabilities, ascending."""
    calibrated: list[float]
    """Share of right answers at each of them; between two it is interpolated."""
    rows: int
    """Validation rows that it was fitted on."""


class TaskFile(BaseModel):
    """What ``task.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["phisight-task/1"] = "phisight-task/1"
    task: Task
    numbers: Numbers = "text"
    """How the model gives its numbers; see ``train.numbers``."""
    images: int = Field(default=1, ge=1)
    """Most images of one product that it was trained on."""
    max_new_tokens: int = Field(default=96, ge=1)
    constrained: bool = False
    """Whether answers are held to the template when it is asked."""
    categories: dict[str, list[str]] = {}
    """Values of each category field in training."""
    ranges: dict[str, tuple[float, float]] = {}
    """Least and largest value of each number field in training."""
    decimals: dict[str, int] = {}
    """Most digits after the point of each number field in training, as answers write it."""
    intervals: dict[str, NumberInterval] = {}
    calibration: dict[str, FieldCalibration] = {}

    @property
    def limits(self) -> AnswerLimits:
        """What constrained answers may hold."""
        return AnswerLimits(self.categories, self.ranges, self.decimals)

    @property
    def limits_suffice(self) -> bool:
        """Whether answers can be held to the template by the limits alone: a category needs its values."""
        return bool(self.categories) or not any(one.rules.needs_values(one) for one in self.task.fields.values())

    def write(self, folder: Path) -> None:
        """Write ``task.json`` into a folder, whole or not at all."""
        write_text_atomically(folder / TASK_FILE, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The task file of a folder, None where it has none; CheckpointError names the first thing that is wrong."""
        path = folder / TASK_FILE
        if not path.is_file():
            return None
        try:
            values: Any = read_object(path)
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            raise CheckpointError(f"{path}: {key}: {first['msg']}; export the run again") from error
        except (OSError, ValueError, PhisightError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} cannot be used: {reason}; export the run again") from error
