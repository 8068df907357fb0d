"""Rows added to a finished data set: a new version beside it; the old one stays as it is.

Rows of the data set keep their split, and a new row whose product or image is known goes where that is; only new groups
are dealt out. Task, key, groups and limits are those of the data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phisight.core.dataset_folder import FILE_NAME, SPLIT, SPLITS
from phisight.core.errors import DatasetError, SettingsError, some
from phisight.core.task import Task
from phisight.core.task_field import TaskField
from phisight.data.build.build_dataset import Report, run
from phisight.data.build.finish.finalize import BuildResult
from phisight.data.build.plan.columns import Columns
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.plan.kept_splits import KeptSplits
from phisight.data.build.plan.source_plan import Plan, as_source, check_group_column, prepare
from phisight.data.build.plan.splits import SplitShares
from phisight.data.build.plan.table_columns import ADDED, NUMBER, carried_name
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import ImageLimits
from phisight.data.sources import Source
from phisight.data.sources.arrow import STORED_IMAGE, is_embedded, stored_image
from phisight.data.sources.base import SourceBatch, WrappedSource
from phisight.data.sources.layouts.parts import Part, PartsSource
from phisight.data.values.spreadsheet_cells import as_it_was
from phisight.data.values.typed_columns import text_column

_IMAGE = "image of the row"
_ROWS = 64
REVIEWED = "image"
"""The column of a table of answers that names the image."""


def add_rows(
    source: str | Source,
    folder: str | Path,
    options: BuildOptions | None = None,
    report: Report | None = None,
    *,
    column_of_keys: str | None = None,
) -> BuildResult:
    """Write a new version of a data set with the rows of a source added; ``DIR`` -> ``DIR-2`` -> ``DIR-3``.

    ``column_of_keys`` gives the keys where the source has no column that is called like the data set's.

    Raises DatasetError (DIR is no finished data set), SourceError, SettingsError and TaskError as ``build`` does.
    """
    data = DatasetFolder.open(folder)
    options = _options_of(data, options or BuildOptions())
    new = as_source(source, options)
    key = options.key or column_of_keys or _known_key(data, new)
    plan = prepare(new, replace(options, key=key, group=GroupRule(), own_split=False, split_column=None))
    rows = _in_one_type([_FinishedRows(data), _NewRows(plan, data.card.key)], data.task)
    joined = PartsSource(data.path, list(map(Part, rows)), "added")
    joined.image_column = _IMAGE
    check_group_column(options.group, joined)
    columns = Columns(_IMAGE, None if data.card.key == NUMBER else data.card.key, data.task, plan.columns.guesses)
    kept = KeptSplits(np.array([SPLITS.index(name) for name in data.table[SPLIT].to_pylist()], dtype=np.uint8))
    whole = Plan(joined, columns, plan.root, None, plan.question, plan.remarks)
    return run(whole, _next_version(data.path), options, report, kept=kept)


def correct(
    folder: str | Path, review: str | Path, options: BuildOptions | None = None, report: Report | None = None
) -> BuildResult:
    """Add the rows of a table of answers that a person corrected (what ``predict --min-confidence`` sets aside).

    The fields of the task and the image are taken, nothing else; the image's name is the key. Paths begin in the
    working folder, as they did for ``predict``, unless the options say otherwise.
    """
    data = DatasetFolder.open(folder)
    options = options or BuildOptions()
    table = as_source(str(review), _options_of(data, options))
    wanted = [options.image or REVIEWED, *data.task.names]
    missing = [name for name in wanted if name not in table.schema.names]
    if missing:
        raise SettingsError(
            f"{review} has no column {some(missing)}, so it is no table of answers of this task; its columns are "
            f"{some(table.schema.names, 20)}"
        )
    selected = _Selected(table, wanted, options.image_root or Path.cwd())
    options = replace(options, image=wanted[0], key=wanted[0])
    return add_rows(selected, folder, options, report)


def _options_of(data: DatasetFolder, options: BuildOptions) -> BuildOptions:
    """The options with the data set's own task, groups, shares, seed and limits; options may widen the limits."""
    if options.task is not None:
        raise SettingsError("--add asks the task of the data set; leave --task, --field and --answer out")
    build: dict[str, Any] = (data.card.model_extra or {}).get("build") or {}
    try:
        group = build.get("group") or {}
        column = group.get("column")
        return replace(
            options,
            task=data.task,
            prompt=None,
            group=GroupRule(carried_name(column) if column else None, tuple(group.get("patterns") or ())),
            near_duplicates=bool(build.get("near_duplicates", True)),
            shares=SplitShares(**build["shares"]) if "shares" in build else options.shares,
            seed=int(build.get("seed", 0)),
            limits=_wider(ImageLimits(**build.get("limits", {})), options.limits),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{data.path}: the card does not say how it was built ({error}); build it again") from error


def _wider(own: ImageLimits, given: ImageLimits) -> ImageLimits:
    """The wider of two limits each: what a data set holds already stays in it."""
    return ImageLimits(
        max(own.max_bytes, given.max_bytes), max(own.max_pixels, given.max_pixels), min(own.min_side, given.min_side)
    )


def _known_key(data: DatasetFolder, new: Source) -> str | None:
    """The new source's column that is called like the data set's key."""
    return next((name for name in new.schema.names if carried_name(name) == data.card.key), None)


def _next_version(folder: Path) -> Path:
    """The first free ``DIR-N`` beside a data set."""
    name = folder.resolve().name
    match = re.fullmatch(r"(.+)-(\d+)", name)
    stem, number = (match[1], int(match[2])) if match else (name, 1)
    while True:
        number += 1
        if not (target := folder.resolve().with_name(f"{stem}-{number}")).exists() or (target / ".build").is_dir():
            return target


def _in_one_type(sources: list[Source], task: Task) -> list[Source]:
    """The sources, fields of the task as text where they differ in type, so that a build reads them again."""
    types = {name: [source.schema.field(name).type for source in sources] for name in task.names}
    differing = {
        name: task.fields[name]
        for name, (first, *others) in types.items()
        if task.fields[name].rules.storage != "string" and any(not one.equals(first) for one in others)
    }
    return [_FieldsAsText(source, differing) for source in sources] if differing else sources


class _FieldsAsText(WrappedSource):
    """A source with some fields as text."""

    def __init__(self, source: Source, fields: Mapping[str, TaskField]) -> None:
        super().__init__(source)
        self._fields = fields
        self.schema = pa.schema(
            [pa.field(one.name, pa.string()) if one.name in fields else one for one in source.schema]
        )

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        for batch in self._source.batches():
            columns = [
                text_column(batch.table[name].to_pylist(), self._fields[name])
                if name in self._fields
                else batch.table[name]
                for name in self.schema.names
            ]
            yield replace(batch, table=pa.Table.from_arrays(columns, schema=self.schema))


class _FinishedRows(Source):
    """The rows of a finished data set, images as bytes."""

    root: Path | None = None
    image_column: str | None = _IMAGE
    key_column: str | None = None

    def __init__(self, data: DatasetFolder) -> None:
        self._data = data
        own = [field for field in data.table.schema.remove_metadata() if field.name not in ADDED.names]
        self._own = [field.name for field in own]
        self.schema = pa.schema([*own, pa.field(_IMAGE, STORED_IMAGE)])
        self.description = {**data.card.source, "kind": "data set", "name": data.path.resolve().name}

    def count(self) -> int | None:
        """Rows."""
        return len(self._data)

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        done = 0
        for batch in self._data.table.replace_schema_metadata(None).to_batches(max_chunksize=_ROWS):
            table = pa.Table.from_batches([batch])
            images = [self._bytes(name) for name in table[FILE_NAME].to_pylist()]
            cells = pa.array([{"bytes": one, "path": None} for one in images], STORED_IMAGE)
            numbers = list(range(done + 1, done + 1 + len(images)))
            done += len(images)
            yield SourceBatch(table.select(self._own).append_column(_IMAGE, cells), numbers)

    def _bytes(self, name: str) -> bytes | None:
        path = self._data.path / name
        return path.read_bytes() if path.is_file() else None


class _NewRows(Source):
    """The rows of a prepared source under the names of a finished table, the image in a column of its own."""

    root: Path | None = None
    image_column: str | None = _IMAGE
    key_column: str | None = None

    def __init__(self, plan: Plan, key: str) -> None:
        self._plan = plan
        self._source = plan.source
        image = self._source.schema.field(plan.columns.image)
        embedded = is_embedded(image.type)
        self._names = {
            carried_name(name): name for name in self._source.schema.names if not (embedded and name == image.name)
        }
        if key != NUMBER and plan.columns.key is not None:
            self._names[key] = plan.columns.key
        own = self._source.schema
        self.schema = pa.schema(
            [
                *(pa.field(name, own.field(one).type) for name, one in self._names.items()),
                pa.field(_IMAGE, STORED_IMAGE),
            ]
        )
        self.description = self._source.description

    def count(self) -> int | None:
        """Rows."""
        return self._source.count()

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        for batch in self._source.batches():
            columns = [batch.table[own] for own in self._names.values()]
            cells = [stored_image(cell) for cell in batch.table[self._plan.columns.image].to_pylist()]
            columns.append(pa.chunked_array([pa.array(cells, STORED_IMAGE)]))
            yield replace(batch, table=pa.Table.from_arrays(columns, schema=self.schema))


class _Selected(WrappedSource):
    """Some columns of a source, with the folder that paths begin in."""

    def __init__(self, source: Source, names: list[str], root: Path) -> None:
        super().__init__(source)
        self._names = names
        self.root = root
        self.schema = pa.schema([source.schema.field(name) for name in names])
        self.image_column = self.key_column = names[0]

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        for batch in self._source.batches():
            yield replace(batch, table=pa.table({name: _as_it_was(batch.table[name]) for name in self._names}))


def _as_it_was(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """A column without the marks that keep spreadsheets from running its texts."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    return pa.array(map(as_it_was, column.to_pylist()), column.type)
