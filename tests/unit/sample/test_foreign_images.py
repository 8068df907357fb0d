"""Foreign images: several kinds that differ, the same from the same seed, listed in the card, chosen by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import SampleError
from phisight.data.dataset.folder import DatasetFolder
from phisight.sample.foreign.foreign_folder import HELD_OUT, KINDS, TRAINED, make_foreign


def test_trained_and_held_out_kinds_are_disjoint() -> None:
    assert len(TRAINED) >= 4
    assert len(HELD_OUT) >= 4
    assert not set(TRAINED) & set(HELD_OUT)
    assert set(KINDS) == {*TRAINED, *HELD_OUT}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_draws_any_size(kind: str) -> None:
    drawn = []
    for seed, size in enumerate([(16, 16), (24, 400), (336, 336), (400, 24)]):
        image = KINDS[kind](np.random.default_rng(seed), *size)
        assert image.size == size
        assert image.mode == "RGB"
        again = KINDS[kind](np.random.default_rng(seed), *size)
        assert image.tobytes() == again.tobytes()
        drawn.append(np.asarray(image.resize((8, 8))))
    assert len({one.tobytes() for one in drawn}) > 1


def test_a_folder_is_the_same_on_any_number_of_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        make_foreign(len(KINDS), tmp_path / name, seed=4, workers=workers)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert all((tmp_path / "one" / one).read_bytes() == (tmp_path / "two" / one).read_bytes() for one in files)
    opened = DatasetFolder.open(tmp_path / "one")
    opened.require_unchanged(opened.rows())
    assert {row["kind"] for row in opened.rows()} == set(KINDS)


def test_sizes_come_from_another_data_set(tmp_path: Path) -> None:
    make_foreign(12, tmp_path / "foreign", seed=0, sizes=[(80, 60), (70, 90)])
    for row in DatasetFolder.open(tmp_path / "foreign").rows():
        with Image.open(tmp_path / "foreign" / row["file_name"]) as image:
            assert image.size in {(80, 60), (70, 90)}


def test_the_command(tmp_path: Path) -> None:
    products, out = tmp_path / "products", tmp_path / "foreign"
    made = ["sample", "make", "--workers", "1", "--preset", "demo", "--rows", "6", "--out", str(products)]
    assert CliRunner().invoke(app, made).exit_code == 0
    arguments = ["sample", "make", "--workers", "1", "--foreign", "6", "--out", str(out), "--like", str(products)]
    sheet = ["--sheet", str(tmp_path / "sheet.png")]
    done = CliRunner().invoke(app, [*arguments, "--kinds", "noise, map", *sheet])
    assert done.exit_code == 0, done.output
    assert "6 foreign images" in done.output
    assert json.loads((out / "sample.json").read_text(encoding="utf-8"))["settings"]["kinds"] == {"noise": 3, "map": 3}
    assert (tmp_path / "sheet.png").is_file()
    sizes = {(row["image_width"], row["image_height"]) for row in DatasetFolder.open(products).rows()}
    assert {(row["image_width"], row["image_height"]) for row in DatasetFolder.open(out).rows()} <= sizes


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--foreign", "4", "--kinds", "nois"], "did you mean 'noise'"),
        (["--foreign", "0"], "at least 1"),
        (["--foreign", "4", "--rows", "4"], "neither --rows"),
        (["--foreign", "4", "--faults", "all"], "neither --rows"),
        (["--rows", "4", "--kinds", "noise"], "--foreign N with --kinds"),
        ([], "give --rows N"),
    ],
    ids=str,
)
def test_what_does_not_go_together(tmp_path: Path, extra: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["sample", "make", "--out", str(tmp_path / "out"), "--workers", "1", *extra])
    assert isinstance(done.exception, SampleError)
    assert words in str(done.exception)
    assert not (tmp_path / "out").exists()
