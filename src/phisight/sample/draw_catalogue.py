"""Seed -> catalogue: a table and its images, streamed to a data set folder.

Work is cut into batches of designs. A batch depends on the seed and its designs alone, so the bytes are the same on any
number of workers, and memory holds a few batches however many rows are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.dataset_folder import GROUP, METADATA, SPLIT, SPLITS, DatasetCard
from phisight.core.errors import SampleError
from phisight.core.task import Task
from phisight.sample.card import ATTRIBUTES, FAULTS, SampleCard
from phisight.sample.catalogue.designs import design_sizes, listings
from phisight.sample.catalogue.presets import PRESETS, SampleSettings
from phisight.sample.catalogue.pricing import describe, prices
from phisight.sample.catalogue.table_rows import (
    KEY,
    TABLE,
    TRUTH,
    file_name,
    group_of,
    price_list_row,
    split_of,
    truth_row,
    with_text_prices,
)
from phisight.sample.drawn_folder import stored_image
from phisight.sample.faults import plant
from phisight.sample.output_folder import new_folder
from phisight.sample.parallel import in_order
from phisight.sample.render import draw_image, encode

Progress = Callable[[int], None]
"""Called with the number of rows just finished."""

_ROW_GROUP = 4096
"""Rows of a row group in the Parquet files."""

_BATCH = 64
_BINS = 20_000  # of absolute percentage error, 0.01 points each


@dataclass(frozen=True)
class Batch:
    """Some whole designs: ``designs`` are (number, rows), ``first`` the row of the first."""

    seed: int
    settings: SampleSettings
    first: int
    designs: tuple[tuple[int, int], ...]
    folder: Path


@dataclass(frozen=True)
class Drawn:
    """Rows of a batch whose images are on disk."""

    table: list[dict[str, Any]]
    truth: list[dict[str, Any]]


def make(
    rows: int,
    out: Path,
    *,
    seed: int,
    settings: SampleSettings = PRESETS["fashion"],
    workers: int = 1,
    faults: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SampleCard:
    """Draw a catalogue of ``rows`` products into the data set folder ``out`` and return its card.

    ``faults`` plants dirt at the given rates (``faults.FAULT_KINDS``) and lists it in ``faults.jsonl``; with text among
    the prices, their column is text. The folder appears whole or not at all. SampleError when ``rows`` or
    ``workers`` is below 1, or when ``out`` holds something (``overwrite`` replaces an earlier sample, never anything
    else).
    """
    if rows < 1 or workers < 1:
        raise SampleError(f"rows and workers must be at least 1; got {rows} rows and {workers} workers")
    with new_folder(out, overwrite) as folder:
        results = in_order(draw_batch, _batches(rows, seed, settings, folder), workers)
        return _Writer(folder, seed, settings, faults or {}).write(results, progress)


def _batches(rows: int, seed: int, settings: SampleSettings, folder: Path) -> Iterator[Batch]:
    first, done, designs = 0, 0, []
    for design, count in design_sizes(seed, settings, rows):
        designs.append((design, count))
        done += count
        if done - first >= _BATCH:
            yield Batch(seed, settings, first, tuple(designs), folder)
            first, designs = done, []
    if designs:
        yield Batch(seed, settings, first, tuple(designs), folder)


def draw_batch(batch: Batch) -> Drawn:
    """Draw the rows of a batch, write their images, return the rows."""
    drawn, row = Drawn([], []), batch.first
    for design, count in batch.designs:
        for listing in listings(batch.seed, batch.settings, design)[:count]:
            price = prices(batch.seed, batch.settings, design, row, listing.product)
            cells = price_list_row(batch.seed, batch.settings, listing, row, price)
            image = draw_image(batch.seed, batch.settings, listing.product, row)
            stored = stored_image(batch.folder, file_name(row, cells[KEY]), encode(image, batch.settings), image)
            group = group_of(design)
            drawn.table.append(stored | {SPLIT: split_of(batch.seed, group), GROUP: group} | cells)
            drawn.truth.append(truth_row(listing, cells[KEY], price.rule))
            row += 1
    return drawn


class _RowGroups:
    """A Parquet file filled in groups of many rows: the writer keeps what it knows of each group until the end."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema)
        self._schema = schema
        self._waiting: list[dict[str, Any]] = []

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._waiting += rows
        if len(self._waiting) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []

    def __enter__(self) -> _RowGroups:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


class _Writer:
    """Streams batches to the files of the folder and counts what the cards say."""

    def __init__(self, folder: Path, seed: int, settings: SampleSettings, rates: Mapping[str, float]) -> None:
        self._folder, self._seed, self._settings, self._rates = folder, seed, settings, rates
        self._splits: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()
        self._errors = np.zeros(_BINS, dtype=np.int64)

    def write(self, results: Iterable[Drawn], progress: Progress | None) -> SampleCard:
        """Write everything; the card last."""
        schema = with_text_prices(TABLE) if self._rates.get("wrong_type") else TABLE
        with ExitStack() as stack:
            table = stack.enter_context(_RowGroups(self._folder / METADATA, schema))
            truth = stack.enter_context(_RowGroups(self._folder / ATTRIBUTES, TRUTH))
            listed = stack.enter_context((self._folder / FAULTS).open("w", encoding="utf-8")) if self._rates else None
            for drawn in results:
                rows, faults = plant(drawn.table, self._folder, self._seed, self._rates, self._splits.total())
                self._count(drawn, rows)
                self._faults.update(fault.fault for fault in faults)
                if listed:
                    listed.writelines(fault.line() + "\n" for fault in faults)
                if schema is not TABLE:
                    rows = [row | {"full_price": _as_text(row["full_price"])} for row in rows]
                table.add(rows)
                truth.add(drawn.truth)
                if progress:
                    progress(len(drawn.table))
        return self._cards()

    def _count(self, drawn: Drawn, rows: list[dict[str, Any]]) -> None:
        self._splits.update(row[SPLIT] for row in rows)
        self._groups["designs"] += len({row[GROUP] for row in drawn.table})
        for cells, facts in zip(drawn.table, drawn.truth, strict=True):
            error = abs(facts["rule_price"] / cells["full_price"] - 1)
            self._errors[min(_BINS - 1, int(error * 10_000))] += 1

    def _cards(self) -> SampleCard:
        rows = self._splits.total()
        middle = int(np.searchsorted(np.cumsum(self._errors), self._errors.sum() / 2))
        card = SampleCard(
            rows=rows,
            designs=self._groups["designs"],
            seed=self._seed,
            settings=self._settings.model_dump(mode="json"),
            price_rule=describe(self._settings),
            best_price_median_ape=(middle + 0.5) / 10_000,
            faults=dict(sorted(self._faults.items())),
        )
        card.write(self._folder)
        DatasetCard(
            task=Task(),
            key=KEY,
            rows=rows,
            splits={split: self._splits[split] for split in SPLITS},
            source={"kind": "sample", "preset": self._settings.preset, "seed": self._seed, "rows": rows},
        ).write(self._folder)
        return card


def _as_text(value: Any) -> str | None:
    return None if value is None else str(value)
