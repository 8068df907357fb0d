"""Seed -> catalogue: a table and its pictures, streamed to a data set folder.

Work is cut into batches of designs. A batch depends on the seed and its designs alone, so the bytes are the same on any
number of workers, and memory holds a few batches however many rows are asked for.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.datadir import CARD, FILE_NAME, GROUP, HEIGHT, METADATA, SHA256, SPLIT, SPLITS, WIDTH, DatasetCard
from phisight.core.errors import SampleError
from phisight.core.task import Task
from phisight.sample.card import ATTRIBUTES, SAMPLE, SampleCard
from phisight.sample.design import design_sizes, listings
from phisight.sample.picture import draw_picture, encode
from phisight.sample.pricing import describe, prices
from phisight.sample.rows import KEY, TABLE, TRUTH, file_name, group_of, price_list_row, split_of, truth_row
from phisight.sample.settings import PRESETS, SampleSettings

Progress = Callable[[int], None]
"""Called with the number of rows just finished."""

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
    """Rows of a batch whose pictures are on disk."""

    table: list[dict[str, Any]]
    truth: list[dict[str, Any]]


def make(
    rows: int,
    out: Path,
    *,
    seed: int,
    settings: SampleSettings = PRESETS["fashion"],
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SampleCard:
    """Draw a catalogue of ``rows`` products into the data set folder ``out`` and return its card.

    The folder appears whole or not at all. SampleError when ``rows`` or ``workers`` is below 1, or when ``out`` holds
    something (``overwrite`` replaces an earlier sample, never anything else).
    """
    if rows < 1 or workers < 1:
        raise SampleError(f"rows and workers must be at least 1; got {rows} rows and {workers} workers")
    with new_folder(out, overwrite) as folder:
        results = drawn_in_order(_batches(rows, seed, settings, folder), workers)
        return _write(folder, results, seed, settings, progress)


class new_folder:  # noqa: N801 - a context manager that reads as a verb
    """A folder that appears under ``out`` when the block ends well; what stood there before stays until then."""

    def __init__(self, out: Path, overwrite: bool) -> None:
        self._out, self._overwrite = out, overwrite
        self._partial = out.parent / f".{out.name}.partial"

    def __enter__(self) -> Path:
        check_free(self._out, self._overwrite)
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self._partial

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            if self._out.exists():
                shutil.rmtree(self._out)
            self._partial.replace(self._out)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)


def check_free(out: Path, overwrite: bool) -> None:
    """SampleError unless ``out`` is free, or holds an earlier sample that may be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise SampleError(f"{out} is a file, not a folder; choose another --out")
    held = sum(1 for _ in out.iterdir())
    if not held or (overwrite and (out / SAMPLE).is_file() and (out / CARD).is_file()):
        return
    if (out / SAMPLE).is_file():
        raise SampleError(f"{out} already holds a sample; pass --overwrite to replace it, or choose another --out")
    raise SampleError(f"{out} holds {held} files that are no sample; choose another --out (nothing was touched)")


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


def drawn_in_order(batches: Iterable[Batch], workers: int) -> Iterator[Drawn]:
    """Batches drawn on ``workers`` processes, in order; at most three a worker wait in memory."""
    if workers == 1:
        yield from map(draw_batch, batches)
        return
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        waiting: deque[Future[Drawn]] = deque()
        for batch in batches:
            waiting.append(pool.submit(draw_batch, batch))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def draw_batch(batch: Batch) -> Drawn:
    """Draw the rows of a batch, write their pictures, return the rows."""
    drawn, row = Drawn([], []), batch.first
    for design, count in batch.designs:
        for listing in listings(batch.seed, batch.settings, design)[:count]:
            price = prices(batch.seed, batch.settings, design, row, listing.product)
            cells = price_list_row(batch.seed, batch.settings, listing, row, price)
            image = draw_picture(batch.seed, batch.settings, listing, row)
            content = encode(image, batch.settings)
            name = file_name(row, cells[KEY])
            path = batch.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            group = group_of(design)
            added = {
                FILE_NAME: name,
                SPLIT: split_of(batch.seed, group),
                GROUP: group,
                SHA256: hashlib.sha256(content).hexdigest(),
                WIDTH: image.width,
                HEIGHT: image.height,
            }
            drawn.table.append(added | cells)
            drawn.truth.append(truth_row(listing, cells[KEY], price.rule))
            row += 1
    return drawn


def _write(
    folder: Path, results: Iterable[Drawn], seed: int, settings: SampleSettings, progress: Progress | None
) -> SampleCard:
    splits: Counter[str] = Counter()
    errors = np.zeros(_BINS, dtype=np.int64)
    designs, last = 0, ""
    with pq.ParquetWriter(folder / METADATA, TABLE) as table, pq.ParquetWriter(folder / ATTRIBUTES, TRUTH) as truth:
        for drawn in results:
            table.write_table(pa.Table.from_pylist(drawn.table, schema=TABLE))
            truth.write_table(pa.Table.from_pylist(drawn.truth, schema=TRUTH))
            for cells, facts in zip(drawn.table, drawn.truth, strict=True):
                splits[cells[SPLIT]] += 1
                error = abs(facts["rule_price"] / cells["full_price"] - 1)
                errors[min(_BINS - 1, int(error * 10_000))] += 1
                designs, last = designs + (cells[GROUP] != last), cells[GROUP]
            if progress:
                progress(len(drawn.table))
    card = SampleCard(
        rows=splits.total(),
        designs=designs,
        seed=seed,
        settings=settings.model_dump(mode="json"),
        price_rule=describe(settings),
        best_price_median_ape=(int(np.searchsorted(np.cumsum(errors), splits.total() / 2)) + 0.5) / 10_000,
    )
    card.write(folder)
    DatasetCard(
        task=Task(),
        key=KEY,
        rows=card.rows,
        splits={split: splits[split] for split in SPLITS},
        source={"kind": "sample", "preset": settings.preset, "seed": seed, "rows": card.rows},
    ).write(folder)
    return card
