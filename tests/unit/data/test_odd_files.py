"""Odd files by the thousand: each kept with its pixels or rejected by name, and the same pixels on every path."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phisight.core.dataset_folder import SPLITS
from phisight.data.build.build_dataset import build
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import ImageLimits, decode_bytes, decode_rgb, prepare_image
from phisight.data.images.rejection import Rejection
from phisight.evaluate import read_rows
from phisight.extraction.extractor import source_of
from phisight.generate import ImageSource, load_rgb
from tests.helpers.odd_files import odd_files
from tests.helpers.odd_images import OddImage

LIMITS = ImageLimits()
SUFFIXES = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".jpeg", ".tiff")


def verdict(odd: OddImage) -> str:
    """What is wrong with the result of a file; empty where it is right."""
    try:
        stored = prepare_image(odd.data, LIMITS)[1]
    except Rejection as rejection:
        if odd.rejection is None or not re.fullmatch(odd.rejection, rejection.kind):
            return f"{odd.name}: rejected as {rejection.kind} ({rejection.reason})"
        return "" if rejected(odd.data) == rejection.kind else f"{odd.name}: rejected by the build alone"
    if odd.pixels is None:
        return f"{odd.name}: kept, though {odd.rejection}"
    pixels = np.asarray(decode_bytes(stored, odd.name))
    if pixels.shape != odd.pixels.shape or np.abs(pixels - odd.pixels).max() > odd.tolerance:
        return f"{odd.name}: other pixels ({pixels.shape} for {odd.pixels.shape})"
    same = np.array_equal(pixels, np.asarray(decode_rgb(odd.data, LIMITS)))
    return "" if same else f"{odd.name}: prediction sees other pixels than a build stores"


def rejected(data: bytes) -> str:
    try:
        decode_rgb(data, LIMITS)
    except Rejection as rejection:
        return rejection.kind
    return ""


def build_and_compare(files: Sequence[OddImage], folder: Path) -> None:
    """A build of the files under any suffix: kept + rejected = read, and every path gives the stored pixels."""
    for at, odd in enumerate(files):
        path = folder / "odd" / f"class{at % 3}" / f"{at:04}{SUFFIXES[at % len(SUFFIXES)]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(odd.data)
    result = build(str(folder / "odd"), folder / "ds")
    assert (result.read, result.kept + result.rejected.total()) == (len(files), len(files))
    lines = map(json.loads, (folder / "ds" / "rejects.jsonl").read_text().splitlines())
    kinds = {int(Path(line["key"]).stem): line["kind"] for line in lines}
    for at, odd in enumerate(files):
        assert re.fullmatch(odd.rejection or "kept", kinds.get(at, "kept")), (odd.name, kinds.get(at))

    data = DatasetFolder.open(folder / "ds")
    splits = [split for split in SPLITS if split in data.split_names]
    found = [row for split in splits for row in read_rows(data.path, data.task, split).rows]
    evaluated = {row.key: row.recorded[0] for row in found}
    assert len(evaluated) == result.kept
    for row in data.rows():
        key = str(row[data.card.key])
        source = folder / "odd" / key
        trained = np.asarray(data.load_image(row))
        paths: dict[str, ImageSource] = {
            "predict": source,
            "bytes": source_of(source.read_bytes()),
            "evaluate": evaluated[key],
            "stored": Image.open(data.image_path(row)),
        }
        for name, given in paths.items():
            same = np.array_equal(trained, np.asarray(load_rgb(given)))
            assert same, f"{name} sees other pixels of {files[int(source.stem)].name}"


def test_odd_files_are_kept_with_their_pixels_or_rejected_by_name() -> None:
    wrong = [problem for odd in odd_files(400) if (problem := verdict(odd))]
    assert not wrong, "\n".join(wrong)


def test_every_path_gives_the_same_pixels(tmp_path: Path) -> None:
    build_and_compare(odd_files(200, seed=1), tmp_path)


@pytest.mark.slow
def test_two_thousand_odd_files(tmp_path: Path) -> None:
    files = odd_files(2000, seed=2)
    assert len(files) == 2000
    wrong = [problem for odd in files if (problem := verdict(odd))]
    assert not wrong, "\n".join(wrong)
    build_and_compare(files, tmp_path)
