"""The dirt of real data, planted at given rates, and a list of every piece of it.

Faults stay inside a batch (a leak needs two rows of one design, a copy needs its original), so they stream like the
rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import FILE_NAME, GROUP, SHA256, SPLIT
from phisight.core.errors import SampleError, some
from phisight.core.seeding import hashed_fraction, named_seed
from phisight.sample.catalogue.table_rows import KEY

Row = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One planted fault; ``row`` counts from 0 in ``metadata.parquet``."""

    fault: str
    row: int
    product_code: str
    column: str | None
    before: Any
    after: Any

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, default=str)


DEFAULT_RATE = 0.01


def parse_rates(text: str) -> dict[str, float]:
    """Read ``all``, ``all=0.02`` or ``broken_image=0.01,outlier_price=0.02``."""
    rates: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        try:
            rate = float(value) if value else DEFAULT_RATE
        except ValueError:
            raise SampleError(f"fault {name!r}: the rate should be a number from 0 to 1, got {value!r}") from None
        names = list(FAULT_KINDS) if name == "all" else [name]
        if unknown := [each for each in names if each not in FAULT_KINDS]:
            raise SampleError(f"no fault {some(unknown)!r}; faults: {some(FAULT_KINDS, 20)}, or all")
        if not 0 <= rate <= 1:
            raise SampleError(f"fault {name!r}: the rate should be from 0 to 1, got {rate}")
        rates.update(dict.fromkeys(names, rate))
    return rates


def plant(
    table: list[Row], folder: Path, seed: int, rates: Mapping[str, float], first_row: int
) -> tuple[list[Row], list[Fault]]:
    """The rows of one batch with faults in them, and what was planted; images in ``folder`` are changed in place."""
    rows: list[Row] = []
    faults: list[Fault] = []
    for cells in table:
        planted = _draw(cells, seed, rates)
        damaged = dict(cells)
        for kind in planted:
            change = FAULT_KINDS[kind](damaged, table, folder, seed)
            if change is None:
                continue
            column, before, after = change
            faults.append(Fault(kind, first_row + len(rows), str(cells[KEY]), column, before, after))
            if kind == "duplicate_row":
                rows.append(dict(cells))
        rows.append(damaged)
    return rows, faults


def _draw(cells: Row, seed: int, rates: Mapping[str, float]) -> Iterator[str]:
    for kind, rate in rates.items():
        if hashed_fraction(seed, "sample", "fault", kind, cells[KEY]) < rate:
            yield kind
            return  # one fault a row: each can be found alone


_Change = tuple[str | None, Any, Any] | None


def _broken_image(cells: Row, _table: list[Row], folder: Path, seed: int) -> _Change:
    path = folder / cells[FILE_NAME]
    content = path.read_bytes()
    how = named_seed(seed, "sample", "broken", cells[KEY]) % 3
    damaged = (content[: len(content) // 3], b"", b"<html><body>404 Not Found</body></html>")[how]
    path.write_bytes(damaged)
    return FILE_NAME, f"{len(content)} bytes", ("cut to a third", "empty file", "a page instead of an image")[how]


def _missing_image(cells: Row, _table: list[Row], folder: Path, _seed: int) -> _Change:
    (folder / cells[FILE_NAME]).unlink()
    return FILE_NAME, cells[FILE_NAME], None


def _wrong_type(cells: Row, _table: list[Row], _folder: Path, seed: int) -> _Change:
    before = cells["full_price"]
    texts = (f"{float(before):,.2f} USD", "n/a", "on request")
    cells["full_price"] = texts[named_seed(seed, "sample", "text", cells[KEY]) % len(texts)]
    return "full_price", before, cells["full_price"]


def _empty_field(cells: Row, _table: list[Row], _folder: Path, seed: int) -> _Change:
    column = ("title", "category3_code", "full_price")[named_seed(seed, "sample", "empty", cells[KEY]) % 3]
    before, cells[column] = cells[column], None
    return column, before, None


def _outlier_price(cells: Row, _table: list[Row], _folder: Path, seed: int) -> _Change:
    factor = (100.0, 0.01)[named_seed(seed, "sample", "outlier", cells[KEY]) % 2]
    before = cells["full_price"]
    for column in ("full_price", "price", "full_price_eur", "price_eur"):
        if cells[column] is not None:
            cells[column] = round(cells[column] * factor, 2)
    return "full_price", before, cells["full_price"]


def _price_above_full(cells: Row, _table: list[Row], _folder: Path, _seed: int) -> _Change:
    before = cells["price"]
    cells["price"] = round(cells["full_price"] * 1.25, 2)
    return "price", before, cells["price"]


def _wrong_category(cells: Row, table: list[Row], _folder: Path, seed: int) -> _Change:
    others = sorted({row["category3_code"] for row in table} - {cells["category3_code"], None})
    if not others:
        return None
    before = cells["category3_code"]
    cells["category3_code"] = others[named_seed(seed, "sample", "label", cells[KEY]) % len(others)]
    return "category3_code", before, cells["category3_code"]


def _split_leak(cells: Row, table: list[Row], _folder: Path, _seed: int) -> _Change:
    family = [row for row in table if row[GROUP] == cells[GROUP]]
    if len(family) < 2:
        return None
    before = cells[SPLIT]
    cells[SPLIT] = "test" if before == "train" else "train"
    return SPLIT, before, cells[SPLIT]


def _duplicate_row(cells: Row, _table: list[Row], _folder: Path, _seed: int) -> _Change:
    return None, cells[KEY], cells[KEY]


def _duplicate_image(cells: Row, table: list[Row], _folder: Path, _seed: int) -> _Change:
    others = [row for row in table if row[GROUP] != cells[GROUP]]
    if not others:
        return None
    before = cells[FILE_NAME]
    cells[FILE_NAME], cells[SHA256] = others[0][FILE_NAME], others[0][SHA256]
    return FILE_NAME, before, cells[FILE_NAME]


def _markup_title(cells: Row, _table: list[Row], _folder: Path, _seed: int) -> _Change:
    before = cells["title"]
    cells["title"] = f"<b>{before}</b>\u00a0&amp; more\u200b"
    return "title", before, cells["title"]


FAULT_KINDS: dict[str, Callable[[Row, list[Row], Path, int], _Change]] = {
    "broken_image": _broken_image,
    "missing_image": _missing_image,
    "wrong_type": _wrong_type,
    "empty_field": _empty_field,
    "outlier_price": _outlier_price,
    "price_above_full": _price_above_full,
    "wrong_category": _wrong_category,
    "split_leak": _split_leak,
    "duplicate_row": _duplicate_row,
    "duplicate_image": _duplicate_image,
    "markup_title": _markup_title,
}
"""Name of a fault -> what it does to a row (and to its image)."""
