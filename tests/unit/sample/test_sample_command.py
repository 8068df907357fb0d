"""The command line of the sample."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from phisight.cli import app, main
from phisight.core.dataset_folder import METADATA


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
        (["--like", "nowhere.csv"], "no table"),
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
