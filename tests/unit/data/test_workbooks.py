"""Workbooks as people keep them: title lines, merged cells, hidden and empty sheets, columns without names."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SourceError
from phisight.data.sources.layouts.open import open_source

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("python_calamine", reason="the excel extra is not installed")

NAMES = ["sku", "title", "price", "kind"]
ROWS = [[f"p{n}", f"Thing {n}", n + 0.5, "hat" if n < 3 else "bag"] for n in range(6)]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]


def plain(_book: Any, sheet: Any) -> None:
    for row in (NAMES, *ROWS):
        sheet.append(row)


def title_line(_book: Any, sheet: Any) -> None:
    sheet.append(["Prices of the summer"])
    sheet.merge_cells("A1:D1")
    sheet.append([])
    plain(_book, sheet)


def merged_kinds(_book: Any, sheet: Any) -> None:
    sheet.append(NAMES)
    for at, row in enumerate(ROWS):
        sheet.append([*row[:3], row[3] if at in (0, 3) else None])
    sheet.merge_cells("D2:D4")
    sheet.merge_cells("D5:D7")


def spread(_book: Any, sheet: Any) -> None:
    """Empty rows between, and the table not in the corner."""
    table: list[list[Any]] = [NAMES, *ROWS]
    for at, row in enumerate(table):
        for place, cell in enumerate(row):
            sheet.cell(3 + 2 * at, 1 + place, cell)


def hidden_first(book: Any, sheet: Any) -> None:
    sheet.append(["a", "b"])
    sheet.append([1, 2])
    sheet.sheet_state = "hidden"
    plain(book, book.create_sheet("Shop"))
    book.active = 1


def empty_first(book: Any, _sheet: Any) -> None:
    plain(book, book.create_sheet("Shop"))


def others_behind(book: Any, sheet: Any) -> None:
    plain(book, sheet)
    book.create_sheet("Notes").append(["see above"])


FORMS: list[tuple[Callable[..., None], str]] = [
    (plain, ""), (title_line, "1 lines above the header"), (merged_kinds, "2 cells that are merged"), (spread, ""),
    (hidden_first, ""), (empty_first, "'Shop' is read"), (others_behind, "others are not (Notes)"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "note"), FORMS, ids=[form.__name__ for form, _ in FORMS])
def test_the_rows_are_the_same_in_every_form(form: Callable[..., None], note: str, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    form(book, book.active)
    book.save(tmp_path / "t.xlsx")
    source = open_source(str(tmp_path / "t.xlsx"))
    assert [row for batch in source.batches() for row in batch.table.to_pylist()] == RECORDS
    assert not any(batch.malformed for batch in source.batches())
    assert note in " ".join(source.notes)
    assert bool(note) is bool(source.notes)


@pytest.mark.parametrize(("twice", "unnamed"), list(itertools.product((False, True), repeat=2)))
def test_columns_that_cannot_be_told_apart_get_names(twice: bool, unnamed: bool, tmp_path: Path) -> None:
    header = ["sku", "tag" if twice else "note", None if unnamed else "price", "tag"]
    book = openpyxl.Workbook()
    for row in [header, ["p0", "a", 1, "b"]]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    source = open_source(str(tmp_path / "t.xlsx"))
    expected = ["sku", header[1], "column_3" if unnamed else "price", "tag_2" if twice else "tag"]
    assert source.schema.names == expected
    assert len(source.notes) == twice + unnamed


def test_an_empty_sheet_is_one_line_that_names_the_others(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.create_sheet("Second")
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(SourceError, match=r"is empty.*--sheet \(Sheet\)"):
        open_source(str(tmp_path / "t.xlsx"))
