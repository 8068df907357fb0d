"""A data set's images are read under the limits of its build, and only as the bytes that were stored."""

import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phisight.core.dataset_folder import SPLITS
from phisight.core.errors import ChangedImageError, ElongatedImageError, MissingImageError, UnreadableImageError
from phisight.core.geometry import hd_grid
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.inspect import describe, page
from phisight.data.dataset.leakage import damaged_images, find_leaks
from phisight.data.images.decode import ImageLimits, load_image, prepare_image
from phisight.data.images.recorded import RecordedImage, require_unchanged
from phisight.data.images.rejection import Rejection
from phisight.evaluate import evaluate, read_rows
from phisight.generate import load_rgb
from phisight.generate.requests import shape_of
from tests.helpers.images import encoded, smooth_image
from tests.helpers.shop import answer_of, make_rows, predictor


def folder_of(path: Path, images: dict[str, bytes], options: BuildOptions | None = None) -> DatasetFolder:
    for name, data in images.items():
        (path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "source" / name).write_bytes(data)
    build(str(path / "source"), path / "ds", options)
    return DatasetFolder.open(path / "ds")


@pytest.fixture
def data(tmp_path: Path) -> DatasetFolder:
    return folder_of(tmp_path, {f"c{at % 2}/{at}.jpg": encoded(smooth_image(at)) for at in range(8)})


def turn_red(data: DatasetFolder, at: int) -> Path:
    path = data.image_path(data.rows()[at])
    Image.new("RGB", (96, 64), "red").save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "image"),
    [
        (ImageLimits(min_side=2), encoded(smooth_image(1, (200, 3)), "PNG")),
        pytest.param(
            ImageLimits(max_pixels=60_000_000),
            encoded(Image.new("1", (8000, 7000)), "PNG"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_limits_that_a_build_raised_hold_everywhere(tmp_path: Path, limits: ImageLimits, image: bytes) -> None:
    others = {f"c/{at}.png": encoded(smooth_image(at), "PNG") for at in range(3)}
    assert len(folder_of(tmp_path / "usual", {"c/odd.png": image, **others})) == 3
    data = folder_of(tmp_path / "raised", {"c/odd.png": image, **others}, BuildOptions(limits=limits))
    assert len(data) == 4
    for row in data.rows():
        assert data.load_image(row).size == (row["image_width"], row["image_height"])
    splits = [split for split in SPLITS if split in data.split_names]
    found = [row for split in splits for row in read_rows(data.path, data.task, split).rows]
    assert len([load_rgb(row.recorded[0]) for row in found]) == 4
    page(data, describe(data), tmp_path / "page.html")
    assert not find_leaks(data)
    with pytest.raises(UnreadableImageError):
        load_image(data.image_path(next(row for row in data.rows() if "odd" in row["path"])))


@pytest.mark.parametrize("build_limits", [None, [], "x", {"max_pixels": "many"}, {"min_side": None}, {"max_bytes": -1}])
def test_a_card_with_other_limits_is_read_with_the_usual_ones(data: DatasetFolder, build_limits: object) -> None:
    (data.card.model_extra or {})["build"] = {"limits": build_limits}
    assert data.recorded(data.rows()[0]).limits == ImageLimits()


def test_an_image_that_changed_is_an_error_with_file_and_row(data: DatasetFolder) -> None:
    path = turn_red(data, 3)
    row = data.rows()[3]
    with pytest.raises(ChangedImageError) as caught:
        data.load_image(row)
    assert str(path) in str(caught.value)
    assert repr(row[data.card.key]) in str(caught.value)
    assert damaged_images(data) == [row["file_name"]]
    turn_red(data, 4)
    with pytest.raises(ChangedImageError, match="and 1 more"):
        require_unchanged(map(data.recorded, data.rows()))
    source = data.path.parent / "source"
    build(str(source), data.path)
    healed = DatasetFolder.open(data.path)
    healed.require_unchanged(healed.rows())
    assert not damaged_images(healed)


def test_a_file_is_hashed_once_while_it_stays_as_it_is(data: DatasetFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    row = data.rows()[0]
    hashed: list[int] = []
    whole = hashlib.sha256

    def counted(body: bytes) -> Any:
        hashed.append(len(body))
        return whole(body)

    monkeypatch.setattr("phisight.data.images.recorded.hashlib.sha256", counted)
    for _ in range(3):
        data.load_image(row)
    assert len(hashed) == 1
    path = turn_red(data, 0)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedImageError):
        data.load_image(row)


@pytest.mark.parametrize("recorded", [True, False])
def test_answers_are_never_those_of_other_images(tmp_path: Path, recorded: bool) -> None:
    """All answers are there already; then an image changes: an error where the table has hashes, else asked again."""
    rows = make_rows(tmp_path, 4)
    if recorded:
        rows = [replace(row, hashes=(RecordedImage(row.image).content(),)) for row in rows]
    log = tmp_path / "answers.jsonl"
    evaluate(predictor(), rows, Task(), answer_log=log)
    lines = log.read_text().splitlines()
    evaluate(predictor(), rows, Task(), answer_log=log)
    assert log.read_text().splitlines() == lines
    rows[2].image.write_bytes(rows[1].image.read_bytes())
    if recorded:
        with pytest.raises(ChangedImageError, match=repr(rows[2].key)):
            evaluate(predictor(), rows, Task(), answer_log=log)
        return
    again = evaluate(predictor(), rows, Task(), answer_log=log)
    assert again.answers[2] == answer_of(1)


@pytest.mark.parametrize(
    ("width", "height"), [(4000, 9), (9, 4000), (2688, 8), (2689, 8), (336 * 9, 9), (336 * 9 + 1, 9)]
)
def test_a_build_keeps_what_training_can_cut(width: int, height: int) -> None:
    """The same rule as the crop grid of one crop, which baselines see."""
    data = encoded(Image.effect_noise((width, height), 50), "PNG")
    try:
        hd_grid(width, height, 1)
    except ElongatedImageError:
        with pytest.raises(Rejection) as rejected:
            prepare_image(data, ImageLimits())
        assert rejected.value.kind == "elongated"
    else:
        assert prepare_image(data, ImageLimits())[0].width == width


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [pipe, listening, Path.mkdir])
def test_what_is_no_file_is_named_and_never_waited_for(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd" / "c").mkdir(parents=True)
    odd = tmp_path / "odd" / "c" / "a.jpg"
    make(odd)
    (tmp_path / "odd" / "c" / "b.jpg").write_bytes(encoded(smooth_image(1)))
    with pytest.raises((UnreadableImageError, MissingImageError), match=r"a folder|no regular file"):
        load_rgb(odd)
    assert shape_of(odd) == 1.0
    result = build(str(tmp_path / "odd"), tmp_path / "ds")
    expected = (1, 1, {}) if odd.is_dir() else (2, 1, {"missing_file": 1})  # a folder is a folder, whatever its name
    assert (result.read, result.kept, dict(result.rejected)) == expected
