"""Receipts: a field of every kind, printed on the image, the same bytes for the same seed."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import SampleError
from phisight.core.kinds import KINDS
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import load_image
from phisight.sample.receipts.receipt_content import receipt_of
from phisight.sample.receipts.receipt_folder import make_receipts
from phisight.sample.receipts.receipt_image import draw_receipt


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_kind_is_drawn(tmp_path: Path) -> None:
    words = [
        "sample",
        "make",
        "--rows",
        "40",
        "--out",
        str(tmp_path / "data"),
        "--preset",
        "receipts",
        "--workers",
        "1",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    data = DatasetFolder.open(tmp_path / "data")
    assert {field.kind for field in data.task.fields.values()} == set(KINDS)
    rows = data.rows()
    assert {row["tip"] is None for row in rows} == {True, False}
    for row in rows:
        assert data.task.parse(data.task.render(row)).values == data.task.values(row)
        assert load_image(data.image_path(row)).size == (row["image_width"], row["image_height"])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, workers, seed in (("one", 1, 5), ("two", 2, 5), ("other", 1, 6)):
        make_receipts(6, tmp_path / name, seed=seed, workers=workers)
    one, two, other = (folder_bytes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["metadata.parquet"] != other["metadata.parquet"]


@pytest.mark.parametrize("change", ["day", "tip", "card", "note", "shop"])
def test_every_field_can_be_seen(change: str) -> None:
    """Another value gives another image, with all else as it was."""
    first = receipt_of(0, 0)
    others = (receipt_of(0, row) for row in range(1, 99))
    value = next(getattr(one, change) for one in others if getattr(one, change) != getattr(first, change))
    changed = type(first)(**{**vars(first), change: value})
    one, other = (np.asarray(draw_receipt(receipt, 0, 0)) for receipt in (first, changed))
    assert one.shape != other.shape or (one != other).any()


def test_what_does_not_go_together_is_named(tmp_path: Path) -> None:
    words = ["sample", "make", "--rows", "4", "--out", str(tmp_path / "data"), "--preset", "receipts"]
    result = CliRunner().invoke(app, [*words, "--faults", "all"])
    assert isinstance(result.exception, SampleError)
    with pytest.raises(SampleError, match="at least 1"):
        make_receipts(0, tmp_path / "none", seed=0)
