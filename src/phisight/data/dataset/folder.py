"""Read a data set folder: the card, the rows, the images. Written by ``phisight.data.build.build_dataset``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from phisight.core.dataset_folder import (
    FILE_NAME,
    GROUP,
    HEIGHT,
    METADATA,
    REJECTS,
    SHA256,
    SPLIT,
    SPLITS,
    WIDTH,
    DatasetCard,
)  # fmt: skip
from phisight.core.errors import DatasetError, MissingImageError, some
from phisight.core.task import Task
from phisight.data.build.finish.put_in_place import is_readable
from phisight.data.images.decode import ImageLimits
from phisight.data.images.recorded import RecordedImage, require_unchanged


class DatasetFolder:
    """A finished data set folder, opened for reading; images are read when asked for."""

    def __init__(self, path: Path, card: DatasetCard, table: pa.Table) -> None:
        self.path = path
        self.card = card
        self.table = table

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open DIR; DatasetError when it is no data set folder, is unfinished, or table and card disagree."""
        folder = Path(path)
        if not is_readable(folder):
            raise DatasetError(
                f"{folder} is not finished: its build was interrupted or still runs; run the same "
                "`phisight data build` again, it asks only for what is missing"
            )
        card = DatasetCard.read(folder)
        try:
            table = pq.read_table(folder / METADATA)
            table.validate(full=True)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise DatasetError(f"{folder / METADATA} cannot be read: {reason}; build the folder again") from error
        missing = [name for name in (FILE_NAME, SPLIT, card.key, *card.task.names) if name not in table.column_names]
        if missing:
            raise DatasetError(
                f"{folder / METADATA} has no column {some(missing)}; its columns are {some(table.column_names, 20)}"
            )
        _check_types(folder / METADATA, table)
        if table.num_rows != card.rows:
            raise DatasetError(
                f"{folder}: the card says {card.rows} rows but the table has {table.num_rows}; build the folder again"
            )
        return cls(folder, card, table)

    @property
    def task(self) -> Task:
        """Prompt, template and fields of this data set."""
        return self.card.task

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the build found, each with ``count`` and ``meaning``; a card that was edited may hold none."""
        found = (self.card.model_extra or {}).get("findings")
        known = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        return [
            {
                "kind": str(one.get("kind", "")),
                "count": one["count"],
                "meaning": one["meaning"],
                "keys": list(map(str, keys)) if keys else [],
            }
            for one in known
            if {"count", "meaning"} <= set(one)
            for keys in [one["keys"] if isinstance(one.get("keys"), list) else []]
        ]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def split_names(self) -> list[str]:
        """Splits that have rows, in the order train, validation, test."""
        found = set(self.table[SPLIT].unique().to_pylist())
        return [name for name in SPLITS if name in found]

    def rows(self, split: str | None = None) -> list[dict[str, Any]]:
        """Rows of one split (or all), in table order, without images; DatasetError for a split without rows."""
        if split is None:
            return list(self.table.to_pylist())
        if split not in self.split_names:
            raise DatasetError(f"{self.path} has no rows in split {split!r}; it has {some(self.split_names)}")
        return list(self.table.filter(pc.equal(self.table[SPLIT], split)).to_pylist())

    def image_path(self, row: Mapping[str, Any]) -> Path:
        """Path of a row's image; MissingImageError, naming the row, when it is not there or leads elsewhere."""
        name = str(row[FILE_NAME])
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise MissingImageError(f"row {row[self.card.key]!r}: {name!r} leads out of {self.path}")
        if not path.is_file():
            raise MissingImageError(
                f"row {row[self.card.key]!r}: there is no image {name!r} in {self.path}; build the folder again"
            )
        return path

    def recorded(self, row: Mapping[str, Any]) -> RecordedImage:
        """A row's image with what the table and the card say of it; MissingImageError when it is not there."""
        sha256 = str(row.get(SHA256) or "")
        return RecordedImage(self.image_path(row), sha256, str(row[self.card.key]), image_limits(self.card))

    def load_image(self, row: Mapping[str, Any]) -> Image.Image:
        """A row's image in RGB; see ``RecordedImage.load`` for what it raises."""
        return self.recorded(row).load()

    def require_unchanged(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """ChangedImageError when an image of some row is not the one that the table records."""
        require_unchanged(map(self.recorded, rows))

    @property
    def rejects_path(self) -> Path:
        """Where the rejects of the build stand."""
        return self.path / REJECTS


def image_limits(card: DatasetCard) -> ImageLimits:
    """The limits of the build that wrote the card, where they are wider than the usual ones."""
    build, usual = (card.model_extra or {}).get("build"), ImageLimits()
    recorded = build.get("limits") if isinstance(build, dict) else None
    found = recorded if isinstance(recorded, dict) else {}
    own = {name: value for name, value in found.items() if isinstance(value, int) and value > 0}
    return ImageLimits(
        max_bytes=max(usual.max_bytes, own.get("max_bytes", 0)),
        max_pixels=max(usual.max_pixels, own.get("max_pixels", 0)),
        min_side=min(usual.min_side, own.get("min_side", usual.min_side)),
    )


_TEXT_COLUMNS = (FILE_NAME, SPLIT, GROUP, SHA256, "image_phash", "image_colours")
_NUMBER_COLUMNS = (WIDTH, HEIGHT)


def _check_types(path: Path, table: pa.Table) -> None:
    """DatasetError when a column that phisight adds has another type or holds nothing in some row."""
    for name in table.column_names:
        kind = table[name].type
        text = name in _TEXT_COLUMNS and not (pa.types.is_string(kind) or pa.types.is_large_string(kind))
        number = name in _NUMBER_COLUMNS and not pa.types.is_integer(kind)
        empty = name in (*_TEXT_COLUMNS, *_NUMBER_COLUMNS) and table[name].null_count
        if text or number or empty:
            found = f"{empty} empty cells" if empty else f"the type {kind}"
            raise DatasetError(f"{path}: column {name!r} has {found}; build the folder again")
