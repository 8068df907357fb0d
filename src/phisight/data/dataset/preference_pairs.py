"""Pairs of answers in a JSON Lines file, checked against a data set folder: columns as TRL's DPO trainer reads them.

    {"images": ["images/7.jpg"], "prompt": "What is shown?", "chosen": "Product: Scarf", "rejected": "Product: Shoe"}

``prompt``, ``chosen`` and ``rejected`` are texts, or chat messages of one turn. An image is one of the data set, named
as in its table, or a file named relative to the file of pairs, inside its folder. A pair whose image is in a split
other than ``train``, or that cannot be used, is left out with the reason; it never ends the job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from phisight.core.dataset_folder import FILE_NAME, GROUP, HEIGHT, SHA256, SPLIT, WIDTH
from phisight.core.errors import DatasetError, ImageError, PhisightError, some
from phisight.core.read_files import parse_json
from phisight.core.task import checked_prompt, special_tokens_in
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.image_groups import IMAGE_ROWS
from phisight.data.images.decode import load_image
from phisight.data.images.recorded import RecordedImage

PAIRS = "pairs.jsonl"
"""Name of the file in a folder of pairs."""
PROMPT, CHOSEN, REJECTED = "__prompt__", "__chosen__", "__rejected__"
"""Keys of a pair's row beside the columns of its image."""
OUTSIDE = "__outside__"
"""Key of an image's row that is no row of the data set; its file lies beside the pairs."""

Row = dict[str, Any]


class ReadPairs(NamedTuple):
    """Usable pairs, each the row of its image with prompt and answers, and what was left out."""

    rows: list[Row]
    left_out: list[str]
    """A sentence for each pair that cannot be used, with its line."""


class _UnusableError(ValueError):
    """A pair that is left out."""


def pairs_file(path: Path) -> Path:
    """The file of pairs that a recipe names, or that lies in the folder it names; DatasetError without one."""
    found = path / PAIRS if path.is_dir() else path
    if not found.is_file():
        raise DatasetError(f"there is no file of pairs {found}; name a JSONL file, or a folder that holds {PAIRS}")
    return found


def read_pairs(path: Path, folder: DatasetFolder) -> ReadPairs:
    """Pairs of a file or folder; DatasetError where none can be used."""
    file = pairs_file(path)
    images = _Images(folder, file.parent)
    rows: list[Row] = []
    left_out: list[str] = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                rows.append(_row(parse_json(line, f"line {number}"), images))
            except (_UnusableError, PhisightError) as error:
                left_out.append(f"line {number}: {str(error).removeprefix(f'line {number} ')}")
    if not rows:
        raise DatasetError(f"{file} holds no usable pair ({some(left_out, 3) or 'it is empty'})")
    return ReadPairs(rows, left_out)


def recorded_image(row: Mapping[str, Any], folder: DatasetFolder, path: Path) -> RecordedImage:
    """The image of a row, as it was when its pairs were read; ``path`` is that of the pairs."""
    if row.get(OUTSIDE):
        return RecordedImage(pairs_file(path).parent / str(row[FILE_NAME]), str(row[SHA256]), str(row[FILE_NAME]))
    return folder.recorded(row)


class _Images:
    """Rows of images by the names that pairs give them."""

    def __init__(self, folder: DatasetFolder, beside: Path) -> None:
        rows = folder.rows()
        self._beside = beside
        self._known = {str(row[FILE_NAME]): row for row in rows}
        held_back = [row for row in rows if row[SPLIT] != "train"]
        self._hashes = {row.get(SHA256) for row in held_back} - {None}
        self._groups = {row.get(GROUP) for row in held_back} - {None}
        self._outside: dict[str, Row] = {}

    def row(self, name: str, group: object) -> Row:
        """Row of an image; of one that is not in the data set, made from its file."""
        if name in self._known:
            row = self._known[name]
            if row[SPLIT] != "train":
                raise _UnusableError(f"image {name!r} is in the split {row[SPLIT]!r}; pairs are for training")
            return dict(row)
        if name not in self._outside:
            self._outside[name] = self._read(name)
        row = self._outside[name] | ({GROUP: str(group)} if group is not None else {})
        if row[SHA256] in self._hashes or row[GROUP] in self._groups:
            raise _UnusableError(f"image {name!r} shows a product of a split that is not for training")
        return row

    def _read(self, name: str) -> Row:
        path = self._beside / name
        if not path.resolve().is_relative_to(self._beside.resolve()):
            raise _UnusableError(f"image {name!r} leads out of the folder of the pairs")
        try:
            width, height = load_image(path).size
        except ImageError as error:
            raise _UnusableError(f"image {name!r} is neither in the data set nor a readable file ({error})") from None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {FILE_NAME: name, SHA256: digest, GROUP: digest, WIDTH: width, HEIGHT: height, OUTSIDE: True}


def _row(values: Any, images: _Images) -> Row:
    """One pair as a row."""
    if not isinstance(values, dict):
        raise _UnusableError("is no object")
    names = values.get("images", values.get("image"))
    names = [names] if isinstance(names, str) else names
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _UnusableError("'images' names no file")
    prompt = checked_prompt(_text(values, "prompt", "user"))
    chosen, rejected = _text(values, "chosen", "assistant"), _text(values, "rejected", "assistant")
    if chosen == rejected:
        raise _UnusableError("chosen and rejected answer are the same")
    for answer in (chosen, rejected):
        if found := special_tokens_in(answer):
            raise _UnusableError(f"the answer {answer[:40]!r} holds the special token {some(found)}")
    shown = [images.row(name, values.get(GROUP)) for name in names]
    joined = {IMAGE_ROWS: shown} if len(shown) > 1 else {}
    return {**shown[0], **joined, PROMPT: prompt, CHOSEN: chosen, REJECTED: rejected}


def _text(values: Mapping[str, Any], column: str, role: str) -> str:
    """A column's text, or that of its only message."""
    value = values.get(column)
    if isinstance(value, list):
        if len(value) != 1 or not isinstance(value[0], dict) or value[0].get("role") != role:
            raise _UnusableError(f"{column!r} is not one message of the role {role!r}; pairs have one turn")
        value = value[0].get("content")
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        value = parts[0] if len(parts) == 1 else None
    if not isinstance(value, str) or not value.strip():
        raise _UnusableError(f"{column!r} holds no text")
    return value.strip()
