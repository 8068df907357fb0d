"""Files of pairs: every way to write one, every way to be left out, and products that are held back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from phisight.core.dataset_folder import FILE_NAME, GROUP, SHA256, SPLIT
from phisight.core.errors import ChangedImageError, DatasetError
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.image_groups import IMAGE_ROWS
from phisight.data.dataset.preference_pairs import CHOSEN, OUTSIDE, PAIRS, PROMPT, REJECTED, read_pairs, recorded_image
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    path = tmp_path_factory.mktemp("pairs") / "data"
    make(24, path, seed=0, settings=preset("demo"), workers=1)
    return DatasetFolder.open(path)


def good(folder: DatasetFolder, **changes: Any) -> dict[str, Any]:
    image = folder.rows("train")[0][FILE_NAME]
    return {"images": [image], "prompt": "What is shown?", "chosen": "A scarf", "rejected": "A shoe", **changes}


def written(path: Path, *lines: Any) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def turn(role: str, content: Any) -> list[dict[str, Any]]:
    return [{"role": role, "content": content}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prompt": "<|image_1|>\nWhat is shown?"},
        {"prompt": turn("user", "What is shown?")},
        {"prompt": turn("user", [{"type": "image"}, {"type": "text", "text": "What is shown?"}])},
        {"chosen": turn("assistant", "A scarf"), "rejected": turn("assistant", [{"type": "text", "text": "A shoe"}])},
        {"score": 3, "chosen": " A scarf\n"},
    ],
    ids=str,
)
def test_texts_and_messages_are_the_same_pair(folder: DatasetFolder, tmp_path: Path, changes: dict[str, Any]) -> None:
    rows, left_out = read_pairs(written(tmp_path / "mine.jsonl", good(folder, **changes)), folder)
    assert left_out == []
    (row,) = rows
    assert (row[PROMPT], row[CHOSEN], row[REJECTED]) == ("What is shown?", "A scarf", "A shoe")
    assert row[SHA256] == folder.rows("train")[0][SHA256]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": []}, "'images' names no file"),
        ({"images": [3]}, "'images' names no file"),
        ({"images": None}, "'images' names no file"),
        ({"images": ["nowhere.jpg"]}, "neither in the data set nor a readable file"),
        ({"images": ["../secret.jpg"]}, "leads out of the folder"),
        ({"images": ["/etc/hostname"]}, "leads out of the folder"),
        ({"chosen": "A shoe"}, "are the same"),
        ({"chosen": ""}, "'chosen' holds no text"),
        ({"rejected": None}, "'rejected' holds no text"),
        ({"prompt": 7}, "'prompt' holds no text"),
        ({"prompt": "x <|end|> y"}, "<|end|>"),
        ({"chosen": "A <|end|> scarf"}, "special token"),
        ({"prompt": [*turn("user", "a"), *turn("assistant", "b")]}, "pairs have one turn"),
        ({"chosen": turn("user", "A scarf")}, "not one message of the role 'assistant'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_pair_that_cannot_be_used_is_left_out_with_its_line(
    folder: DatasetFolder, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    lines = [good(folder), good(folder, **changes), good(folder, rejected="A hat")]
    rows, left_out = read_pairs(written(tmp_path / PAIRS, *lines), folder)
    assert [row[REJECTED] for row in rows] == ["A shoe", "A hat"]
    (sentence,) = left_out
    assert sentence.startswith("line 2: ")
    assert reason in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("line", ["{", "[]", "3", '"text"', '{"images": '], ids=str)
def test_a_broken_line_does_not_end_the_job(folder: DatasetFolder, tmp_path: Path, line: str) -> None:
    found = read_pairs(written(tmp_path / PAIRS, line, good(folder)), folder)
    assert len(found.rows) == 1
    assert len(found.left_out) == 1


def test_nothing_usable_is_an_error(folder: DatasetFolder, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no usable pair"):
        read_pairs(written(tmp_path / PAIRS, "{"), folder)
    with pytest.raises(DatasetError, match="no usable pair"):
        read_pairs(written(tmp_path / PAIRS), folder)
    with pytest.raises(DatasetError, match="no file of pairs"):
        read_pairs(tmp_path / "missing.jsonl", folder)


def test_no_product_that_is_held_back_is_trained_on(folder: DatasetFolder, tmp_path: Path) -> None:
    """By its name in the data set, as a copy of its file, and by the group that a pair claims."""
    held = next(row for row in folder.rows() if row[SPLIT] != "train")
    shutil.copyfile(folder.image_path(held), tmp_path / "copy.jpg")
    other = folder.image_path(folder.rows("train")[1]).read_bytes()
    (tmp_path / "mine.jpg").write_bytes(other + b"\0")
    lines = [
        good(folder),
        good(folder, images=[held[FILE_NAME]]),
        good(folder, images=["copy.jpg"]),
        good(folder, images=["mine.jpg"], group=held[GROUP]),
        good(folder, images=[folder.rows("train")[0][FILE_NAME], held[FILE_NAME]]),
    ]
    rows, left_out = read_pairs(written(tmp_path / PAIRS, *lines), folder)
    assert len(rows) == 1
    assert [sentence[:7] for sentence in left_out] == ["line 2:", "line 3:", "line 4:", "line 5:"]


def test_images_beside_the_pairs(folder: DatasetFolder, tmp_path: Path) -> None:
    source = folder.image_path(folder.rows("train")[1])
    (tmp_path / "own").mkdir()
    copy = tmp_path / "own" / f"photo{source.suffix}"
    copy.write_bytes(source.read_bytes())
    names = [f"own/{copy.name}", folder.rows("train")[0][FILE_NAME]]
    path = written(tmp_path / PAIRS, good(folder, images=names[:1]), good(folder, images=names))
    rows, left_out = read_pairs(tmp_path, folder)
    assert left_out == []
    assert rows[0][OUTSIDE]
    assert recorded_image(rows[0], folder, path).path == copy
    copy.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(ChangedImageError):
        recorded_image(rows[0], folder, path).load()
    assert [recorded_image(one, folder, path).path.name for one in rows[1][IMAGE_ROWS]] == [
        copy.name,
        Path(names[1]).name,
    ]
