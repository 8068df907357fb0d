"""The command line of the sample."""

from __future__ import annotations

import itertools
import json
import tarfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from phisight.cli import app, main
from phisight.core.dataset_folder import METADATA
from phisight.data.dataset.folder import DatasetFolder
from tests.helpers.bombs import add
from tests.helpers.images import encoded, smooth_image


def test_make_says_what_was_made(tmp_path: Path) -> None:
    arguments = ["sample", "make", "--rows", "40", "--out", str(tmp_path / "out"), "--preset", "demo", "--workers", "1"]
    done = CliRunner().invoke(
        app, [*arguments, "--faults", "duplicate_row=0.2,missing_image=0.1", "--sheet", str(tmp_path / "sheet.png")]
    )
    assert done.exit_code == 0, done.output
    assert "best possible price error" in done.output
    assert "duplicate_row" in done.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(sheet.getcolors(1 << 24) or []) > 1000
    assert pq.read_metadata(tmp_path / "out" / METADATA).num_rows > 40


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--preset", "fashon"], "no preset 'fashon'"),
        (["--faults", "rust"], "no fault rust"),
        (["--like", "nowhere.csv"], "there is no file or folder nowhere.csv"),
        (["--like", "nowhere.csv", "--faults", "all"], "not with --like"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, extra: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv",
        ["phisight", "sample", "make", "--rows", "4", "--out", str(tmp_path / "out"), "--workers", "1", *extra],
    )
    with pytest.raises(SystemExit):
        main()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert message in told[0].replace("'rust'", "rust")


def test_help_is_for_newcomers() -> None:
    for command in ("make", "check"):
        text = CliRunner().invoke(app, ["sample", command, "--help"]).output
        assert "Example: phisight sample" in text


def like_sources(folder: Path) -> dict[str, str]:
    """One table as ``data build`` reads it, in every form; what --like is given."""
    folder.mkdir()
    rows = [
        {"sku": f"KX-{n:05d}", "title": f"{a} {b} {n % 7}", "price": 900 + 10.5 * n, "tags": ["new", f"t{n % 3}"]}
        for n, (a, b) in enumerate(itertools.product(("Small", "Wool", "Long", "Red", "Soft"), ("hat", "bag", "coat")))
        for n in (n, n + 15)
    ]
    written = [{**row, "price": f"{row['price']:,.2f} €".translate(str.maketrans(",.", ".,"))} for row in rows]
    names = list(rows[0])
    lines = [";".join(names), *(";".join(map(str, row.values())).replace("'", "") for row in written)]
    (folder / "shop.csv").write_text("\n".join(lines), encoding="utf-16")
    (folder / "array.json").write_text(json.dumps(rows))
    (folder / "object.json").write_text(json.dumps({"products": written}))
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {name: [row[name] for row in rows] for name in names}
    cells = {**columns, "price": [Decimal(f"{price:.2f}") for price in columns["price"]], "photo": [b"x"] * len(rows)}
    table = pa.table({**cells, "sku": pa.array(columns["sku"]).dictionary_encode()})
    pq.write_table(table, folder / "t.parquet")
    split = folder / "splits"
    (split / "train").mkdir(parents=True)
    (split / "train/metadata.csv").write_text(
        "file_name,title,price\n"
        + "".join(f"{n}.jpg,{row['title']},$ {row['price']:.2f}\n" for n, row in enumerate(rows))
    )
    (split / "train/0.jpg").write_bytes(encoded(smooth_image(1)))
    with tarfile.open(folder / "w.tar", "w") as tar:
        for n, row in enumerate(rows):
            add(tar, f"{n}.json", json.dumps({name: row[name] for name in ("title", "price")}).encode())
            add(tar, f"{n}.jpg", encoded(smooth_image(n)))
    found = ["shop.csv", "array.json", "object.json", "lines.jsonl", "t.parquet", "splits", "w.tar"]
    try:
        import openpyxl
    except ImportError:
        return {name: str(folder / name) for name in found}
    book = openpyxl.Workbook()
    for line in [names[:3], *([row[name] for name in names[:3]] for row in rows)]:
        book.active.append(line)
    book.save(folder / "t.xlsx")
    return {name: str(folder / name) for name in [*found, "t.xlsx"]}


def test_like_reads_whatever_a_build_reads(tmp_path: Path) -> None:
    """Prices are learned as numbers in every form, and written as numbers."""
    for name, source in like_sources(tmp_path / "in").items():
        out = tmp_path / f"out-{name}"
        done = CliRunner().invoke(
            app, ["sample", "make", "--rows", "12", "--like", source, "--out", str(out), "--preset", "demo",
                  "--workers", "1"],
        )  # fmt: skip
        assert done.exit_code == 0, (name, done.output, done.exception)
        data = DatasetFolder.open(out)
        assert data.task.fields["price"].kind == "number", name
        prices = [row["price"] for row in data.rows()]
        assert all(900 <= price <= 1300 for price in prices), (name, prices)
