"""A real table -> a data set folder of its kind: learned, drawn, with pictures, without a real row."""

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

from phisight.core.datadir import (
    FILE_NAME,
    GROUP,
    HEIGHT,
    IMAGES,
    METADATA,
    REJECTS,
    SHA256,
    SPLIT,
    SPLITS,
    WIDTH,
    DatasetCard,
)
from phisight.core.errors import EmptyFieldError, SampleError, TaskError
from phisight.core.seeding import named_seed
from phisight.core.task import Task, TaskField
from phisight.sample.card import SampleCard
from phisight.sample.folder import new_folder
from phisight.sample.like.depict import depict
from phisight.sample.like.model import TableModel
from phisight.sample.like.tables import read_table
from phisight.sample.like.text import normal
from phisight.sample.picture import draw_picture, encode
from phisight.sample.pool import in_order
from phisight.sample.products import Colour, Product
from phisight.sample.rows import split_of
from phisight.sample.settings import PRESETS, SampleSettings

_BATCH = 64
_KEY = "product_code"


@dataclass(frozen=True)
class _Work:
    """Pictures of consecutive rows."""

    seed: int
    settings: SampleSettings
    folder: Path
    first: int
    names: tuple[str, ...]
    products: tuple[tuple[Product, Colour], ...]


def imitate(
    like: Path,
    rows: int,
    out: Path,
    *,
    seed: int,
    settings: SampleSettings = PRESETS["fashion"],
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SampleCard:
    """Learn from the table ``like`` and write a new one of ``rows`` rows, with pictures, to the folder ``out``.

    A data set folder is learned from its split train alone, so that test rows can show later what was remembered.
    SourceError when the table cannot be read, SampleError when nothing in it can be asked of a picture or ``out`` is taken.
    """
    if rows < 1 or workers < 1:
        raise SampleError(f"rows and workers must be at least 1; got {rows} rows and {workers} workers")
    table = read_table(like).part("train")
    model = TableModel(table)
    task = task_for(model)
    drawn = model.draw(rows, seed)
    key = model.key or _KEY
    if model.key is None:
        drawn = {**drawn, key: [f"row-{row:07d}" for row in range(rows)]}
    with new_folder(out, overwrite) as folder:
        return _write(folder, drawn, model, task, key, seed, settings, workers, progress)


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
            "there is nothing to ask of a picture; give a table with at least one such column"
        )
    return Task(answer=", ".join(parts), fields=fields)


def _write(
    folder: Path,
    drawn: dict[str, list[Any]],
    model: TableModel,
    task: Task,
    key: str,
    seed: int,
    settings: SampleSettings,
    workers: int,
    progress: Callable[[int], None] | None,
) -> SampleCard:
    rows = [dict(zip(drawn, cells, strict=True)) for cells in zip(*drawn.values(), strict=True)]
    usable, rejects = _usable(rows, task, key)
    splits: Counter[str] = Counter()
    groups: set[str] = set()
    schema = _schema({name: values for name, values in drawn.items() if name != FILE_NAME})
    title = model.title
    with pq.ParquetWriter(folder / METADATA, schema) as table:
        done = 0
        for pictures in _pictures(folder, usable, model, key, seed, settings, workers):
            batch = usable[done : done + len(pictures)]
            done += len(pictures)
            for cells, (name, digest, width, height) in zip(batch, pictures, strict=True):
                group = _group(str(cells[title]) if title and cells[title] else str(cells[key]))
                cells |= {FILE_NAME: name, SHA256: digest, WIDTH: width, HEIGHT: height, GROUP: group}
                cells[SPLIT] = split_of(seed, group)
                splits[cells[SPLIT]] += 1
                groups.add(group)
                for column in model.of_kind("picture"):
                    cells[column.name] = name if cells[column.name] is not None else None
            table.write_table(pa.Table.from_pylist(batch, schema=schema))
            if progress:
                progress(len(batch))
    if rejects:
        (folder / REJECTS).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rejects))
    card = SampleCard(
        rows=len(usable),
        designs=len(groups),
        seed=seed,
        settings=settings.model_dump(mode="json"),
        price_rule={"imitated": model.described()},
        best_price_median_ape=None,
        rejected=len(rejects),
    )
    card.write(folder)
    source = {"kind": "imitation", "seed": seed, "rows_learned_from": model.rows}
    DatasetCard(
        task=task,
        key=key,
        rows=len(usable),
        rejected=len(rejects),
        splits={split: splits[split] for split in SPLITS},
        source=source,
    ).write(folder)
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
        kind = pa.array(values).type if len({type(v) for v in values if v is not None}) == 1 else pa.string()
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    added = [
        (SPLIT, pa.string()),
        (GROUP, pa.string()),
        (SHA256, pa.string()),
        (WIDTH, pa.int64()),
        (HEIGHT, pa.int64()),
    ]
    return pa.schema([*fields, *(pa.field(name, kind) for name, kind in added if name not in drawn)])


def _group(name: str) -> str:
    return hashlib.sha256(normal(name).encode()).hexdigest()[:12]


def _pictures(
    folder: Path,
    rows: list[dict[str, Any]],
    model: TableModel,
    key: str,
    seed: int,
    settings: SampleSettings,
    workers: int,
) -> Iterator[list[tuple[str, str, int, int]]]:
    categories = sorted(model.of_kind("category"), key=lambda column: len(set(map(str, column.values))))
    title = model.title

    def work(first: int) -> _Work:
        names, products = [], []
        for row, cells in enumerate(rows[first : first + _BATCH], start=first):
            rng = np.random.default_rng(named_seed(seed, "sample", "depict", row))
            spoken = [str(cells[column.name]) for column in categories if cells[column.name] is not None]
            products.append(depict(str(cells[title] or "") if title else "", spoken, rng))
            names.append(f"{IMAGES}/{row // 1000:04d}/{row:08d}.jpg")
        return _Work(seed, settings, folder, first, tuple(names), tuple(products))

    return in_order(_draw, (work(first) for first in range(0, len(rows), _BATCH)), workers)


def _draw(work: _Work) -> list[tuple[str, str, int, int]]:
    results = []
    for row, (name, (product, rgb)) in enumerate(zip(work.names, work.products, strict=True), start=work.first):
        image = draw_picture(work.seed, work.settings, product, row, rgb)
        content = encode(image, work.settings)
        path = work.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        results.append((name, hashlib.sha256(content).hexdigest(), image.width, image.height))
    return results
