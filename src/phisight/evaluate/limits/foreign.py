"""Foreign images as rows, how many get a value invented, and how many real images are refused.

invented   a foreign image whose answer has a value in some field; an unread answer has none (``unread``)
refused    a real image whose answer says of a field, which every row has, that it is not shown

An image above the threshold of ``unfamiliar`` has no value in any field (``refusing``), as at a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from phisight.core.dataset_folder import FILE_NAME, HEIGHT, SHA256, WIDTH
from phisight.core.task import FieldValue, Task
from phisight.data.dataset.foreign_images import FOREIGN
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.rows import EvalRow
from phisight.evaluate.statistics.bootstrap import group_codes, interval
from phisight.evaluate.statistics.group_test import MEAN
from phisight.evaluate.statistics.wilson import wilson


def foreign_rows(folder: Path, rows: Sequence[Mapping[str, Any]], task: Task) -> list[EvalRow]:
    """Images of a folder (``read_foreign``) as rows whose every field is without a value; a kind is their key."""
    nothing: dict[str, FieldValue] = dict.fromkeys(task.names)
    return [
        EvalRow(
            str(row[FOREIGN]),
            folder / str(row[FILE_NAME]),
            nothing,
            "",
            str(row[SHA256]),
            group=str(row[SHA256]),
            sizes=((int(row[WIDTH]), int(row[HEIGHT])),),
            hashes=(str(row[SHA256]),),
        )
        for row in rows
    ]


def foreign_figures(answers: Predictions) -> dict[str, Any]:
    """Shares of foreign images, each with a Wilson interval: images are independent of each other.

    ``invented``, ``unread``, ``by_kind`` (invented) and ``by_field`` (images whose answer has a value of the field).
    """
    invented = [_has_value(one) for one in answers.parsed]
    kinds = [row.key for row in answers.rows]
    return {
        "images": len(answers),
        "invented": share(invented),
        "unread": share([one is None for one in answers.parsed]),
        "by_kind": {
            kind: share([one for one, other in zip(invented, kinds, strict=True) if other == kind])
            for kind in sorted(set(kinds))
        },
        "by_field": {name: share([one is not None for one in answers.predicted(name)]) for name in answers.task.names},
    }


def refused(answers: Predictions, *, seed: int = 0) -> dict[str, Any]:
    """Share of real images that are refused, with an interval over products."""
    return grouped_share(refused_rows(answers), answers.groups, seed=seed)


def refused_rows(answers: Predictions) -> list[bool]:
    """Of each row whether it is refused."""
    needed = answers.task.needed
    return [one is not None and any(one[name] is None for name in needed) for one in answers.parsed]


def refusing(answers: Predictions, unfamiliar: Sequence[float]) -> Predictions:
    """The answers, without value and confidence where the shown image is too unfamiliar; texts stay as they are.

    ``unfamiliar`` is the score of each row's own image: above 1 it is refused. A row that is shown no row's image, or
    whose answer cannot be read, is left as it is.
    """
    nothing: dict[str, FieldValue] = dict.fromkeys(answers.task.names)
    over = [
        values is not None and shown is not None and unfamiliar[shown] > 1
        for values, shown in zip(answers.parsed, answers.shown, strict=True)
    ]
    parsed = [nothing if one else values for one, values in zip(over, answers.parsed, strict=True)]
    confidences = answers.confidences or [None] * len(answers)
    sure = [None if one else value for one, value in zip(over, confidences, strict=True)]
    return replace(answers, parsed=parsed, confidences=sure if answers.confidences else ())


def share(found: Sequence[bool]) -> dict[str, Any]:
    """Share, count and Wilson interval of independent observations."""
    ends = wilson(sum(found), len(found))
    return {
        "share": sum(found) / len(found) if found else None,
        "count": sum(found),
        "of": len(found),
        "interval": [ends.low, ends.high],
    }


def grouped_share(found: Sequence[bool], groups: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """The same of rows that come in groups: bootstrap over groups; where all or none are counted, Wilson's over as many
    observations as there are groups.
    """
    values = np.asarray(found, np.float64)
    count = int(group_codes(groups, len(groups)).max(initial=-1)) + 1
    ends = interval(MEAN, (values,), groups, seed=seed) if 0 < values.sum() < len(values) else None
    ends = ends or wilson(float(values.mean()) * count if len(values) else 0.0, count)
    return share(found) | {"groups": count, "interval": [ends.low, ends.high]}


def _has_value(values: Mapping[str, FieldValue] | None) -> bool:
    return values is not None and any(value is not None for value in values.values())
