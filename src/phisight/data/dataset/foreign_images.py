"""Images that show nothing of a task: those of a data set folder (``phisight sample make --foreign``) or any other.

rows = read_foreign(Path("data/foreign"), folder).rows      file name, hash, size, kind of each image
examples = foreign_examples(rows, 40, seed, task)           rows whose every field is "not shown"
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from phisight.core.dataset_folder import CARD, FILE_NAME, GROUP, HEIGHT, SHA256, WIDTH
from phisight.core.errors import DatasetError, ImageError, some
from phisight.core.seeding import named_seed
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import ImageLimits, decode_bytes, read_image
from phisight.data.images.image_names import IMAGE_SUFFIXES
from phisight.data.images.recorded import RecordedImage

FOREIGN = "__foreign__"
"""Key of a row whose image is foreign to the task; its value is the kind of image, where that is known."""
KIND = "kind"
"""Column of a data set folder that says which kind of foreign image a row shows."""

Row = dict[str, Any]


class ForeignImages(NamedTuple):
    """Usable images of a folder, and what was left out."""

    folder: Path
    rows: list[Row]
    left_out: list[str]
    """A sentence for each file that cannot be used."""

    def recorded(self, row: Mapping[str, Any]) -> RecordedImage:
        """The image of a row, as it was when the folder was read."""
        name = str(row[FILE_NAME])
        return RecordedImage(self.folder / name, str(row[SHA256]), name)


def read_foreign(path: Path, data: DatasetFolder | None = None) -> ForeignImages:
    """The images of a folder; those that are images of ``data`` are left out.

    DatasetError where the folder is missing or no image can be used.
    """
    if not path.is_dir():
        raise DatasetError(
            f"there is no folder of foreign images {path}; draw some with `phisight sample make --foreign 200 --out "
            f"{path}`"
        )
    if (path / CARD).is_file():
        opened = DatasetFolder.open(path)
        found = [(str(row[FILE_NAME]), str(row.get(KIND) or "")) for row in opened.rows()]
    else:
        files = sorted(one for one in path.rglob("*") if one.suffix.lower() in IMAGE_SUFFIXES)
        found = [(one.relative_to(path).as_posix(), "") for one in files]
    known = set() if data is None else {row.get(SHA256) for row in data.rows()}
    rows: list[Row] = []
    left_out: list[str] = []
    for name, kind in found:
        row = _row(path, name, kind)
        if isinstance(row, str):
            left_out.append(row)
        elif row[SHA256] in known:
            left_out.append(f"{name} is an image of the data set, so it is not foreign")
        else:
            rows.append(row)
    if not rows:
        raise DatasetError(f"{path} holds no usable foreign image ({some(left_out, 3) or 'it holds no image'})")
    return ForeignImages(path, rows, left_out)


def _row(folder: Path, name: str, kind: str) -> Row | str:
    try:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            return f"{name} leads out of the folder"
        path = folder / name
        data = read_image(path, ImageLimits(), str(path))
        width, height = decode_bytes(data, str(path)).size
    except (ImageError, OSError) as error:
        return f"{name}: {' '.join(str(error).split())[:120]}"
    digest = hashlib.sha256(data).hexdigest()
    return {
        FILE_NAME: name,
        SHA256: digest,
        WIDTH: width,
        HEIGHT: height,
        GROUP: f"foreign {digest}",
        FOREIGN: kind or Path(name).parent.name or "any",
    }


def foreign_count(rows: int, share: float) -> int:
    """How many examples to add to ``rows`` so that they are this ``share`` of all; at least one where the share is."""
    return max(1, round(rows * share / (1 - share))) if share else 0


def foreign_examples(images: Sequence[Row], count: int, seed: int, task: Task) -> list[Row]:
    """``count`` rows whose image is foreign and whose every field is not shown.

    The images come in an order drawn from ``seed``, all of them before any comes again.
    """
    order: list[int] = []
    while len(order) < count:
        rng = np.random.default_rng(named_seed(seed, "foreign", len(order)))
        order += rng.permutation(len(images)).tolist()
    return [{**images[index], **task.not_shown} for index in order[:count]]


def kinds_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The kinds of foreign images among some rows, sorted."""
    return sorted({str(row[FOREIGN]) for row in rows if FOREIGN in row})
