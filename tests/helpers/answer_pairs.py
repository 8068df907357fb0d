"""Pairs of answers: rows of the training tests as pairs, and a file of pairs about a data set folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import FILE_NAME, GROUP
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import CHOSEN, PROMPT, REJECTED
from phisight.train.examples.pair_set import PairSet, other_images
from tests.helpers.training_examples import TASK, example_set


def pair_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its own answer chosen and the next one's rejected; rows of one image are one product."""
    answers = [TASK.render(row) for row in rows]
    return [
        {
            **row,
            GROUP: row["image_sha256"],
            PROMPT: TASK.prompt,
            CHOSEN: answers[index],
            REJECTED: answers[(index + 1) % len(rows)],
        }
        for index, row in enumerate(rows)
    ]


def pairs_of(rows: Sequence[dict[str, Any]], processor: Any, *, with_other_images: bool = True) -> PairSet:
    """Pairs of rows as the fixture ``shown`` gives them."""
    made = pair_rows(rows)
    return PairSet(made, example_set(made, processor), other_images(made, 0) if with_other_images else None)


def write_pairs(data: Path, path: Path) -> Path:
    """A file of pairs: the truth of each training row chosen, that of the next one rejected."""
    folder = DatasetFolder.open(data)
    rows = folder.rows("train")
    answers = [folder.task.render(row) for row in rows]
    lines = [
        {"images": [row[FILE_NAME]], "prompt": folder.task.prompt, "chosen": answers[i], "rejected": answers[i - 1]}
        for i, row in enumerate(rows)
        if answers[i] != answers[i - 1]
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
