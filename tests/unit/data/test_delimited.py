"""CSV as it is found: dialects, encodings, headers, and quotes that are never closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SettingsError, SourceError
from phisight.data.sources.delimited.delimited_source import DelimitedSource
from phisight.data.sources.layouts.open import open_source

HEADER = ["sku", "title", "price", "photo"]
ROWS = [[f"p{n}", f"Thing {n}", f"{n}.50", f"photos/{n}.jpg"] for n in range(8)]


def written(path: Path, rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8", end: str = "\n") -> Path:
    path.write_bytes("".join(delimiter.join(row) + end for row in rows).encode(encoding))
    return path


def read(path: Path, **options: Any) -> tuple[list[list[str]], list[str], list[str]]:
    """Header and rows, reasons of malformed rows, notes."""
    source = open_source(str(path), **options)
    batches = list(source.batches())
    rows = [list(row.values()) for batch in batches for row in batch.table.to_pylist()]
    malformed = [bad.reason for batch in batches for bad in batch.malformed]
    numbers = sorted([n for batch in batches for n in [*batch.numbers, *(bad.number for bad in batch.malformed)]])
    assert numbers == list(range(1, len(rows) + len(malformed) + 1))
    assert source.count() == len(numbers)
    return [source.schema.names, *rows], malformed, list(source.notes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters(delimiter: str, name: str, end: str, tmp_path: Path) -> None:
    found, malformed, _ = read(written(tmp_path / name, [HEADER, *ROWS], delimiter, end=end))
    assert (found, malformed) == ([HEADER, *ROWS], [])


def test_prices_with_commas_do_not_decide(tmp_path: Path) -> None:
    rows = [[row[0], row[1], row[2].replace(".", ","), row[3]] for row in ROWS]
    assert read(written(tmp_path / "t.csv", [HEADER, *rows], ";"))[0] == [HEADER, *rows]


def test_the_line_of_excel_that_names_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sep=;\n" + "\n".join(";".join(row) for row in [HEADER, *ROWS]))
    assert read(path)[0] == [HEADER, *ROWS]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_that_the_bytes_prove(encoding: str, tmp_path: Path) -> None:
    rows = [[*row[:1], f"{row[1]} café", *row[2:]] for row in ROWS]
    assert read(written(tmp_path / "t.csv", [HEADER, *rows], encoding=encoding))[0] == [HEADER, *rows]


@pytest.mark.parametrize(
    ("encoding", "title"),
    [("cp1252", "Café für 5 €"), ("shift_jis", "赤いドレス"), ("gb18030", "红色连衣裙"), ("cp1251", "платье")],
)
def test_other_encodings_are_asked_for_with_what_they_would_read(encoding: str, title: str, tmp_path: Path) -> None:
    rows = [[row[0], title, *row[2:]] for row in ROWS]
    path = written(tmp_path / "t.csv", [HEADER, *rows], encoding=encoding)
    with pytest.raises(SourceError, match=r"byte \d+ is no utf-8") as error:
        list(open_source(str(path)).batches())
    assert f"--encoding {encoding} reads {title!r}" in str(error.value)
    assert "\n" not in str(error.value)
    assert read(path, encoding=encoding)[0] == [HEADER, *rows]


def test_an_unknown_encoding_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'nonsense' is no text encoding"):
        open_source(str(written(tmp_path / "t.csv", [HEADER, *ROWS])), encoding="nonsense")


@pytest.mark.parametrize(
    ("before", "note"),
    [("# exported\n# by me\n", "2 lines"), ("\n\n", ""), ("Product export,,,\n,,,\n", "1 lines"), ("\ufeff", "")],
)
def test_lines_before_the_header(before: str, note: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(before + "\n".join(",".join(row) for row in [HEADER, *ROWS]), encoding="utf-8")
    found, malformed, notes = read(path)
    assert (found, malformed) == ([HEADER, *ROWS], [])
    assert note in " ".join(notes)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (["", *HEADER[1:]], ["column_1", *HEADER[1:]]),
        (["a", "b", "a", "a"], ["a", "b", "a_2", "a_3"]),
        (["a", "a_2", "a", ""], ["a", "a_2", "a_3", "column_4"]),
        ([" sku ", "title ", " price", "photo"], HEADER),
        (HEADER[1:], ["column_1", *HEADER[1:]]),
        ([*HEADER, "", ""], HEADER),
    ],
)
def test_headers(header: list[str], names: list[str], tmp_path: Path) -> None:
    assert read(written(tmp_path / "t.csv", [header, *ROWS]))[0] == [names, *ROWS]


def test_a_table_without_a_header(tmp_path: Path) -> None:
    found, _, notes = read(written(tmp_path / "t.csv", ROWS))
    assert found == [["column_1", "column_2", "column_3", "column_4"], *ROWS]
    assert "no header (it holds 'photos/0.jpg')" in notes[0]


def test_ragged_rows(tmp_path: Path) -> None:
    rows = [ROWS[0], [*ROWS[1], "", " "], [*ROWS[2], "x"], ROWS[3][:2], [""] * 4, [], ROWS[4]]
    found, malformed, _ = read(written(tmp_path / "t.csv", [HEADER, *rows]))
    assert found == [HEADER, ROWS[0], ROWS[1], ROWS[4]]
    assert [reason.split(" where")[0] for reason in malformed] == ["5 values", "2 values"]


@pytest.mark.parametrize(
    ("written_title", "title"),
    [('"Thing, red"', "Thing, red"), (' "Thing, red"', "Thing, red"), ("'Thing, red'", "Thing, red"),
     ('"5\\" wide, red"', '5" wide, red'), ('"5"" wide, red"', '5" wide, red'), ('24" screen', '24" screen'),
     ('"two\nlines, red"', "two\nlines, red")],
)  # fmt: skip
def test_quotes(written_title: str, title: str, tmp_path: Path) -> None:
    rows = [[row[0], written_title, *row[2:]] for row in ROWS]
    found, malformed, _ = read(written(tmp_path / "t.csv", [HEADER, *rows]))
    assert (found[1:], malformed) == ([[row[0], title, *row[2:]] for row in ROWS], [])


@pytest.mark.parametrize("at", [0, 3, 7])
@pytest.mark.parametrize("later", [None, 5, 6])
def test_a_quote_that_is_never_closed_costs_its_row_alone(at: int, later: int | None, tmp_path: Path) -> None:
    rows = [[*row] for row in ROWS]
    rows[at][1] = f'"{rows[at][1]}'
    if later is not None and later > at:
        rows[later][1] = '"Thing, red"'
    found, malformed, _ = read(written(tmp_path / "t.csv", [HEADER, *rows]))
    expected = [[row[0], row[1].strip('"'), *row[2:]] for n, row in enumerate(rows) if n != at]
    assert found[1:] == expected
    assert len(malformed) == 1
    assert all("quote is not closed" in reason for reason in malformed)


def test_a_quote_that_is_not_doubled_costs_its_row(tmp_path: Path) -> None:
    rows = [[*row] for row in ROWS]
    rows[2][1] = '"a 24" screen"'
    found, malformed, _ = read(written(tmp_path / "t.csv", [HEADER, *rows]))
    assert [row[0] for row in found[1:]] == [f"p{n}" for n in range(8) if n != 2]
    assert "not doubled inside a quoted value" in malformed[0]


def test_rows_inside_a_closed_quote_are_said(tmp_path: Path) -> None:
    rows = [[*row] for row in ROWS]
    rows[2][1], rows[6][3] = '"Thing', 'end"'
    path = tmp_path / "t.csv"
    path.write_text(
        "\n".join(",".join(row) for row in [HEADER, *rows[:2]])
        + '\np2,"Thing\n'
        + "\n".join(",".join(row) for row in ROWS[3:6])
        + '\nend",1.50,photos/2.jpg\n'
    )
    found, _, notes = read(path)
    assert len(found) == 4
    assert "row 3 holds 3 lines that look like rows: is a quote not closed?" in notes


def test_long_lines_are_capped(tmp_path: Path) -> None:
    rows = [ROWS[0], [ROWS[1][0], "x" * 500, *ROWS[1][2:]], ROWS[2]]
    source = DelimitedSource(written(tmp_path / "t.csv", [HEADER, *rows]), max_bytes=200)
    (batch,) = source.batches()
    assert (batch.numbers, [bad.number for bad in batch.malformed]) == ([1, 3], [2])


def test_many_columns(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(60_000)]
    path = written(tmp_path / "t.csv", [names, ["1"] * 60_000, ["2"] * 60_000])
    source = open_source(str(path))
    (batch,) = source.batches()
    assert (source.schema.names, batch.table.num_rows) == (names, 2)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  \r\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(SourceError, match="is empty"):
        open_source(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("delimiter", ["^", "~", "\x1f", "\x01", "þ", "¦", "¬"])
@pytest.mark.parametrize("title", ["Thing, red", "a|b", "https://a.test/x;y"])
def test_rare_delimiters_are_found_by_the_header(delimiter: str, title: str, tmp_path: Path) -> None:
    rows = [["sku", "title", "price"], *([f"p{n}", f"{title} {n}", f"{n},5"] for n in range(6))]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(map(delimiter.join, rows)) + "\n", encoding="utf-8")
    source = open_source(str(path))
    assert source.schema.names == rows[0]
    assert [list(row.values()) for batch in source.batches() for row in batch.table.to_pylist()] == rows[1:]
    assert any("divided by" in note for note in source.notes)


def test_one_column_stays_one_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("url\nhttps://a.test/~x/1.jpg\nhttps://a.test/~x/2^3.jpg\n")
    assert open_source(str(path)).schema.names == ["url"]


@pytest.mark.parametrize("behind", ["", "\n\n", "\x1a", "\0" * 50, "\n\x1a\n", "\ufeff"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\ufeff\ufeff"])
def test_what_old_programs_leave_at_both_ends(before: str, behind: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'{before}sku,"title\n (English)"\n="007",Hat\n"=""008""",="a"&"b"\n{behind}', encoding="utf-8")
    source = open_source(str(path))
    (batch,) = source.batches()
    assert source.schema.names == ["sku", "title (English)"]
    assert [list(row.values()) for row in batch.table.to_pylist()] == [["007", "Hat"], ["008", '="a"&"b"']]
    assert not batch.malformed
