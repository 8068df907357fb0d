"""Predictions on disk.

RUN/predictions.parquet, one line for each row and image condition:

    row        int64    position in the evaluated rows
    key        string   names the product
    group      string   rows of one group (product, near-duplicates) are one observation
    images     string   real, shuffled, same_grid, blank or mismatched
    shown      int64    row whose image was shown; null for a blank one
    image      string   path of the row's own image
    expected   string   the answer as the task writes it
    answer     string   the model's answer; null where its image could not be used
    written    string   the text as generated, where a number strategy put other numbers into the answer; else null
    reason     string   why no fields could be read; null where they could
    truth      struct   the task's fields: text and category string, number double, integer int64, date date32, boolean
                        bool, list list<string>; null where an optional field has no value
    predicted  struct   fields read from the answer; null where they could not be read; each null where the image is
                        refused as unlike the training images, whatever the answer says
    error      double   0 (all right) to 1 (all wrong), the mean over fields; orders rows from best to worst
    thumbnail  binary   JPEG of the row's own image, for some of the rows with real images
    drawn      bool     belongs to the random sample of those (the others are there for being wrong)
    lower      struct   lower ends of the intervals around the numbers; null without intervals (evaluate.coverage)
    upper      struct   upper ends (files of earlier versions have a column "abstained", too)

The schema's metadata holds the task (key ``phisight.task``).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from phisight.core import run_folder
from phisight.core.errors import ImageError
from phisight.core.seeding import named_seed
from phisight.core.task import Task
from phisight.data.values.typed_columns import arrow_type
from phisight.evaluate.predictions import Predictions
from phisight.generate import ImageSource, load_rgb

TASK_KEY = b"phisight.task"
THUMBNAIL_SIDE = 144
_CHUNK = 4096


class Ends(Protocol):
    """Intervals around the numbers of answers, one entry a row."""

    @property
    def lower(self) -> Sequence[Mapping[str, float] | None]:
        """Lower ends by field."""

    @property
    def upper(self) -> Sequence[Mapping[str, float] | None]:
        """Upper ends by field."""


def write_predictions(
    run_dir: Path,
    every: Sequence[Predictions],
    *,
    thumbnails: int = 500,
    seed: int = 0,
    intervals: Ends | None = None,
    asked: Sequence[int] = (),
) -> Path:
    """Write predictions.parquet, whole or not at all; the rows of ``every`` follow one another.

    ``intervals`` are the intervals around the answers to the real images; ``asked`` are the rows that other images were
    shown for, where those are a sample.

    At most ``thumbnails`` rows with real images get one: all of them if they are so few, else a random sample
    of four fifths of that number, and the worst.
    """
    path = run_dir / run_folder.PREDICTIONS
    task = every[0].task
    schema = _schema(task)
    with run_folder.atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for predictions in every:
            errors = predictions.errors()
            drawn, worst = _with_thumbnail(errors, thumbnails if predictions.images == "real" else 0, seed)
            for start in range(0, len(predictions), _CHUNK):
                span = range(start, min(start + _CHUNK, len(predictions)))
                lines = _lines(predictions, errors, drawn, worst, span)
                if asked and predictions.images != "real":
                    lines = _placed(lines, asked)
                if intervals is not None and predictions.images == "real":
                    lines = _with_ends(lines, intervals)
                writer.write_table(pa.Table.from_pylist(list(lines), schema=schema))
    return path


def _schema(task: Task) -> Any:
    fields = pa.struct([(name, arrow_type(task.fields[name])) for name in task.names])
    columns = [
        ("row", pa.int64()),
        ("key", pa.string()),
        ("group", pa.string()),
        ("images", pa.string()),
        ("shown", pa.int64()),
        ("image", pa.string()),
        ("expected", pa.string()),
        ("answer", pa.string()),
        ("written", pa.string()),
        ("reason", pa.string()),
        ("truth", fields),
        ("predicted", fields),
        ("error", pa.float64()),
        ("thumbnail", pa.binary()),
        ("drawn", pa.bool_()),
    ]
    if numbers := [(name, pa.float64()) for name in task.of_kind("number")]:
        columns += [("lower", pa.struct(numbers)), ("upper", pa.struct(numbers))]
    return pa.schema(columns, metadata={TASK_KEY: task.model_dump_json().encode()})


def _placed(lines: Iterable[dict[str, Any]], asked: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Lines of a sample with the positions in all rows."""
    for line in lines:
        shown = line["shown"]
        yield {**line, "row": asked[line["row"]], "shown": None if shown is None else asked[shown]}


def _with_ends(lines: Iterable[dict[str, Any]], intervals: Ends) -> Iterator[dict[str, Any]]:
    for line in lines:
        row = line["row"]
        yield {**line, "lower": intervals.lower[row], "upper": intervals.upper[row]}


def _lines(
    predictions: Predictions, errors: Sequence[float], drawn: set[int], worst: set[int], span: range
) -> Iterator[dict[str, Any]]:
    for row in span:
        one = predictions.rows[row]
        yield {
            "row": row,
            "key": one.key,
            "group": predictions.groups[row],
            "images": predictions.images,
            "shown": predictions.shown[row],
            "image": str(one.image),
            "expected": one.expected,
            "answer": predictions.answers[row],
            "written": predictions.written[row] if predictions.written else None,
            "reason": predictions.reasons[row],
            "truth": dict(one.truth),
            "predicted": predictions.parsed[row],
            "error": errors[row],
            "thumbnail": thumbnail(one.recorded[0]) if row in drawn or row in worst else None,
            "drawn": row in drawn,
        }


def _with_thumbnail(errors: Sequence[float], limit: int, seed: int) -> tuple[set[int], set[int]]:
    """Rows of the random sample, and the worst of the others: with both, none of the worst rows is left out."""
    if len(errors) <= limit:
        return set(range(len(errors))), set()
    generator = np.random.default_rng(named_seed(seed, "thumbnails"))
    drawn = generator.permutation(len(errors))[: limit - limit // 5]
    others = np.setdiff1d(np.arange(len(errors)), drawn)
    worst = others[np.argsort(-np.asarray(errors)[others], kind="stable")][: limit // 5]
    return set(drawn.tolist()), set(worst.tolist())


def thumbnail(image: ImageSource, side: int = THUMBNAIL_SIDE) -> bytes | None:
    """A small JPEG of an image, its longer side ``side`` pixels; none where the image cannot be used."""
    try:
        loaded = load_rgb(image)
    except ImageError:
        return None
    loaded.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    loaded.save(file, "JPEG", quality=80, optimize=True)
    return file.getvalue()
