"""A real table -> a data set folder of its kind: learned, drawn, with images, without a real row."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.dataset_folder import FILE_NAME, GROUP, IMAGES, METADATA, REJECTS, SPLIT, SPLITS, DatasetCard
from phisight.core.errors import EmptyFieldError, SampleError, TaskError
from phisight.core.seeding import named_seed
from phisight.core.task import Task, TaskField
from phisight.sample.card import SampleCard
from phisight.sample.catalogue.presets import PRESETS, SampleSettings
from phisight.sample.catalogue.products import Color, Product
from phisight.sample.catalogue.table_rows import ADDED, split_of
from phisight.sample.drawn_folder import stored_image
from phisight.sample.like.depict import depict
from phisight.sample.like.real_table import RealTable, read_table
from phisight.sample.like.table_model import TableModel
from phisight.sample.like.title_model import normal
from phisight.sample.output_folder import new_folder
from phisight.sample.parallel import in_order
from phisight.sample.render import draw_image, encode

_BATCH = 64
_KEY = "product_code"


@dataclass(frozen=True)
class _Work:
    """Images of consecutive rows."""

    seed: int
    settings: SampleSettings
    folder: Path
    first: int
    names: tuple[str, ...]
    products: tuple[tuple[Product, Color], ...]


def imitate(
    like: Path | RealTable,
    rows: int,
    out: Path,
    *,
    seed: int,
    settings: SampleSettings = PRESETS["fashion"],
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SampleCard:
    """Learn from the table ``like`` and write a new one of ``rows`` rows, with images, to the folder ``out``.

    A data set folder is learned from its split train alone, so that test rows can show later what was remembered.
    SourceError when the table cannot be read, SampleError when nothing in it can be asked of an image or ``out`` is
    taken.
    """
    if rows < 1 or workers < 1:
        raise SampleError(f"rows and workers must be at least 1; got {rows} rows and {workers} workers")
    table = read_table(like).part("train")
    model = TableModel(table)
    task = task_for(model)
    drawn = {name: _uniform(values) for name, values in model.draw(rows, seed).items()}
    key = model.key or _KEY
    if model.key is None:
        drawn = {**drawn, key: [f"row-{row:07d}" for row in range(rows)]}
    with new_folder(out, overwrite) as folder:
        return _Imitation(folder, model, task, key, seed, settings).write(drawn, workers, progress)


def task_for(model: TableModel) -> Task:
    """The task of the study where the table has its columns; else title, category and price as far as there are any."""
    names = {column.name for column in model.columns if column.kind not in ("empty", "constant")}
    if set(Task().names) <= names:
        return Task()
    title, category = model.title, model.finest_category()
    numbers = [column.name for column in model.of_kind("number")]
    price = next((name for name in numbers if "price" in name.lower()), next(iter(numbers), None))
    fields: dict[str, TaskField] = {}
    parts: list[str] = []
    for label, name, kind in (
        ("Product", title, "text"),
        ("Category", category, "category"),
        ("Price", price, "number"),
    ):
        if name is not None:
            fields[name] = TaskField.model_validate({"kind": kind})
            parts.append(f"{label}: {{{name}}}")
    if not fields:
        raise SampleError(
            f"no column of the {len(model.columns)} holds a title, a category or a number that varies: "
            "there is nothing to ask of an image; give a table with at least one such column"
        )
    return Task(answer=", ".join(parts), fields=fields)


@dataclass(frozen=True)
class _Imitation:
    """One imitation on its way to a folder."""

    folder: Path
    model: TableModel
    task: Task
    key: str
    seed: int
    settings: SampleSettings

    def write(self, drawn: dict[str, list[Any]], workers: int, progress: Callable[[int], None] | None) -> SampleCard:
        """Images, table, rejects and cards."""
        rows = [dict(zip(drawn, cells, strict=True)) for cells in zip(*drawn.values(), strict=True)]
        usable, rejects = _usable(rows, self.task, self.key)
        schema = _schema(drawn)
        done = 0
        with pq.ParquetWriter(self.folder / METADATA, schema) as table:
            for images in self._images(usable, workers):
                batch = usable[done : done + len(images)]
                done += len(images)
                for cells, image in zip(batch, images, strict=True):
                    self._add(cells, image)
                table.write_table(pa.Table.from_pylist(batch, schema=schema))
                if progress:
                    progress(len(batch))
        if rejects:
            lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rejects)
            (self.folder / REJECTS).write_text(lines, encoding="utf-8")
        return self._cards(usable, len(rejects))

    def _add(self, cells: dict[str, Any], image: dict[str, Any]) -> None:
        """The columns of a data set folder, those of the image given; rows of one title stay in one split."""
        title = self.model.title
        group = _group(str(cells[title] if title and cells[title] else cells[self.key]))
        cells |= image | {GROUP: group, SPLIT: split_of(self.seed, group)}
        for column in self.model.of_kind("image"):
            cells[column.name] = None if cells[column.name] is None else image[FILE_NAME]

    def _images(self, rows: list[dict[str, Any]], workers: int) -> Iterator[list[dict[str, Any]]]:
        columns = self.model.of_kind("category")
        coarse_first = sorted(columns, key=lambda column: len(set(map(str, column.values))))
        title = self.model.title

        def work(first: int) -> _Work:
            names, products = [], []
            for row, cells in enumerate(rows[first : first + _BATCH], start=first):
                rng = np.random.default_rng(named_seed(self.seed, "sample", "depict", row))
                spoken = [str(cells[column.name]) for column in coarse_first if cells[column.name] is not None]
                products.append(depict(str(cells[title] or "") if title else "", spoken, rng))
                names.append(f"{IMAGES}/{row // 1000:04d}/{row:08d}.jpg")
            return _Work(self.seed, self.settings, self.folder, first, tuple(names), tuple(products))

        return in_order(_draw, (work(first) for first in range(0, len(rows), _BATCH)), workers)

    def _cards(self, rows: list[dict[str, Any]], rejected: int) -> SampleCard:
        splits = Counter(cells[SPLIT] for cells in rows)
        card = SampleCard(
            rows=len(rows),
            designs=len({cells[GROUP] for cells in rows}),
            seed=self.seed,
            settings=self.settings.model_dump(mode="json"),
            price_rule={"imitated": self.model.described()},
            best_price_median_ape=None,
            rejected=rejected,
        )
        card.write(self.folder)
        DatasetCard(
            task=self.task,
            key=self.key,
            rows=len(rows),
            rejected=rejected,
            splits={split: splits[split] for split in SPLITS},
            source={"kind": "imitation", "seed": self.seed, "rows_learned_from": self.model.rows},
        ).write(self.folder)
        return card


def _usable(rows: list[dict[str, Any]], task: Task, key: str) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    usable: list[dict[str, Any]] = []
    rejects: list[dict[str, str]] = []
    for cells in rows:
        try:
            task.render(cells)
        except (EmptyFieldError, TaskError) as error:
            rejects.append({key: str(cells[key]), "reason": str(error)})
        else:
            usable.append(cells)
    if not usable:
        raise SampleError(
            f"none of {len(rows)} drawn rows has every field of the task; the first: {rejects[0]['reason']}"
        )
    return usable, rejects


def _schema(drawn: dict[str, list[Any]]) -> pa.Schema:
    fields = [pa.field(FILE_NAME, pa.string())]
    for name, values in drawn.items():
        kind = pa.array(values).type
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema([*fields, *ADDED])


def _uniform(values: list[Any]) -> list[Any]:
    """Values of one type: as they are, or as text where a column mixes types."""
    if len({type(value) for value in values if value is not None}) <= 1:
        return values
    return [None if value is None else str(value) for value in values]


def _group(name: str) -> str:
    return hashlib.sha256(normal(name).encode()).hexdigest()[:12]


def _draw(work: _Work) -> list[dict[str, Any]]:
    """The columns that describe each image; the images on disk."""
    results = []
    for row, (name, (product, rgb)) in enumerate(zip(work.names, work.products, strict=True), start=work.first):
        image = draw_image(work.seed, work.settings, product, row, rgb)
        results.append(stored_image(work.folder, name, encode(image, work.settings), image))
    return results
