"""Other layouts: what goes out comes back, to the byte, and no spreadsheet runs a cell."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from phisight.core.errors import DatasetError, SettingsError
from phisight.data.build.build_dataset import build
from phisight.data.dataset.export_formats import export
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.values.spreadsheet_cells import as_it_was, harmless
from tests.helpers.hub_server import Hub, phisight_on, running_hub
from tests.helpers.images import write_images


@pytest.fixture
def data(tmp_path: Path) -> DatasetFolder:
    names = write_images(tmp_path / "in", 24)
    lines = [f"{at:04d},\"=cmd|' /C calc'!A{at}\",{at + 1},{name}" for at, name in enumerate(names)]
    (tmp_path / "in" / "t.csv").write_text("\n".join(["sku,title,price,photo", *lines]))
    build(str(tmp_path / "in" / "t.csv"), tmp_path / "ds")
    return DatasetFolder.open(tmp_path / "ds")


def images(data: DatasetFolder) -> dict[str, bytes]:
    return {row["sku"]: data.image_path(row).read_bytes() for row in data.rows()}


@pytest.mark.parametrize("layout", ["parquet", "webdataset"])
def test_shards_hold_every_row_and_image(data: DatasetFolder, tmp_path: Path, layout: str) -> None:
    files = export(data, tmp_path / "out", layout, shard_bytes=12_000)
    shards = [path for path in files if path.suffix in (".parquet", ".tar")]
    assert len(shards) > 4
    again = export(data, tmp_path / "again", layout, shard_bytes=12_000)
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
    build(str(shards[0].parent), tmp_path / "back")
    back = DatasetFolder.open(tmp_path / "back")
    assert images(back) == images(data)
    assert {row["sku"]: row["price"] for row in back.rows()} == {row["sku"]: row["price"] for row in data.rows()}


def test_the_library_opens_parquet_shards_with_their_splits(data: DatasetFolder, tmp_path: Path) -> None:
    import datasets

    export(data, tmp_path / "out", "parquet")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == {k: v for k, v in data.card.splits.items() if v}
    assert loaded["train"][0]["image"].size == (96, 64)


def test_cells_that_a_spreadsheet_would_run_are_made_harmless(data: DatasetFolder, tmp_path: Path) -> None:
    (path,) = export(data, tmp_path / "out", "csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert all(row["title"].startswith("'=cmd") for row in rows)
    assert [harmless(value) for value in ("+1", "@x", "-2", "\tx", "\rx", "fine", -2.5)] == [
        "'+1", "'@x", "'-2", "'\tx", "'\rx", "fine", -2.5,
    ]  # fmt: skip


def test_targets_and_layouts_are_checked(data: DatasetFolder, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'xls' is none of parquet, webdataset, csv"):
        export(data, tmp_path / "out", "xls")
    with pytest.raises(DatasetError, match="already holds something"):
        export(data, tmp_path / "ds", "parquet")


@pytest.mark.process
def test_push_and_build_again_from_the_hub(data: DatasetFolder, tmp_path: Path) -> None:
    hub = Hub()
    with running_hub(hub):
        pushed = phisight_on(hub, tmp_path / "home", "data", "push", str(data.path), "tester/shop")
        assert pushed.returncode == 0, pushed.stderr
        assert f"{hub.url}/datasets/tester/shop/commit/" in pushed.stdout
        assert {"README.md", "dataset.json", "data/train-00000-of-00001.parquet"} <= set(hub.repos["tester/shop"])
        built = phisight_on(hub, tmp_path / "home", "data", "build", "hf:tester/shop", "--out", str(tmp_path / "back"))
        assert built.returncode == 0, built.stderr
    back = DatasetFolder.open(tmp_path / "back")
    assert images(back) == images(data)
    assert {row["hub_split"] for row in back.rows()} == {"train", "validation", "test"}


@pytest.mark.process
def test_build_writes_shards_beside_the_folder(data: DatasetFolder, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "phisight", "data", "build", str(tmp_path / "in" / "t.csv")]
    command += ["--out", str(tmp_path / "ds"), "--format", "webdataset"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert sorted(path.name for path in (tmp_path / "ds-webdataset").iterdir())[-1] == "validation-00000-of-00001.tar"


@pytest.mark.parametrize(
    "start",
    ["=", "+", "-", "@", "\t", "\r", "\n=", "\0=", "＝", "＋", "－", "＠", "\ufeff=", "\u3000＝", "\x1b="],
)
def test_no_cell_runs_in_a_spreadsheet(start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    assert harmless(text) == f"'{text}"
    assert as_it_was(harmless(text)) == text


@pytest.mark.parametrize("value", ["Red dress", "", "a=b", "100 %", 3.5, None, "é=1"])
def test_other_cells_stay_as_they_are(value: object) -> None:
    assert harmless(value) == value


@pytest.mark.parametrize("text", ["Red dress", "", "'s-Hertogenbosch", "'quoted'", "'", None])
def test_only_marks_of_ours_are_taken_off(text: str | None) -> None:
    assert as_it_was(text) == text
