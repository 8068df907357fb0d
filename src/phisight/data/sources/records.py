"""JSON objects that hold records: in one array, by their keys, or as COCO's tables (arrays: ``json_array``)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.errors import SourceError, some
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.bounds import MAX_FILE_BYTES
from phisight.data.sources.tables import batches_of_records, column_types, file_description, fitted, flat

_DEEPEST = 4
"""Levels of objects in which an array of records is looked for."""


def read_json(path: Path) -> Any:
    """The value of a JSON file; SourceError when it is none."""
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise SourceError(f"{path} holds {size} bytes; a JSON file may have {MAX_FILE_BYTES}: save it as .jsonl")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is no JSON: {str(error)[:200]}; one object a line is called .jsonl") from error


def records_in(value: Any, path: Path) -> list[Any]:
    """The records of a JSON value: the one array of objects inside it, COCO's joined tables, or a table of pandas."""
    if isinstance(value, Mapping):
        if _is_coco(value):
            return list(_coco_records(value))
        for level in _levels(value):
            arrays = {name: part for name, part in level.items() if _holds_objects(part)}
            if len(arrays) == 1:
                return list(next(iter(arrays.values())))
            if arrays:
                raise SourceError(
                    f"{path} holds several lists of records ({some(arrays)}); save the one that is meant as an array"
                )
            if level.keys() == value.keys() and _are_alike(list(value.values())):
                break
        if (records := _of_pandas(value)) is not None:
            return records
    raise SourceError(f"{path} holds no list of records; a JSON array of objects is due, or COCO's tables")


def _are_alike(parts: list[Any]) -> bool:
    """Whether these are several objects that share names: rows of a table, not what stands around one."""
    return len(parts) > 1 and all(isinstance(part, dict) for part in parts) and bool(set.intersection(*map(set, parts)))


def _levels(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What an object holds, then what the objects in it hold, and so on, each under its path (``result.items``)."""
    level: dict[str, Any] = dict(value)
    for _ in range(_DEEPEST):
        yield level
        inner = {name: part for name, part in level.items() if isinstance(part, Mapping)}
        level = {f"{name}.{key}": one for name, part in inner.items() for key, one in part.items()}


def _holds_objects(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and isinstance(part[0], dict)


def _of_pandas(value: Mapping[str, Any]) -> list[Any] | None:
    """The rows of an object that pandas writes (``to_json`` in each of its orientations); none where it is another."""
    names, rows = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(rows, list):  # orient="split"; a shorter row lacks the last cells
        return [dict(zip(map(str, names), row, strict=False)) if isinstance(row, list) else row for row in rows]
    columns = list(value.values())
    if columns and all(isinstance(part, list) for part in columns) and len(set(map(len, columns))) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not columns or not all(isinstance(part, dict) and part for part in columns):
        return None
    if all(key.isdigit() for part in columns for key in part):  # orient="columns", the default
        keys = list(dict.fromkeys(key for part in columns for key in part))
        return [{name: part.get(key) for name, part in value.items()} for key in keys]
    return [{"key": name, **part} for name, part in value.items()]  # orient="index"


class RecordSource(Source):
    """A JSON file of records; ``a.b`` names value b of the object a."""

    image_column: str | None = None
    key_column: str | None = None

    def __init__(self, path: Path) -> None:
        self.root: Path | None = path.parent
        self.description: dict[str, Any] = file_description("json", path)
        value = read_json(path)
        self._records = [_record(one) for one in records_in(value, path)]
        if isinstance(value, Mapping) and _is_coco(value):
            self.image_column, self.key_column = "file_name", None
            self.description["kind"] = "coco"
            if path.parent.name == "annotations":  # images lie beside that folder
                self.root = path.parent.parent
        types = column_types(self._records)
        if not types:
            raise SourceError(f"{path} holds no JSON object; each record must be one, with the columns as its names")
        self.schema = pa.schema(types.items())

    def count(self) -> int | None:
        """Records."""
        return len(self._records)

    def batches(self) -> Iterator[SourceBatch]:
        """All rows; a record that is no object is malformed."""
        yield from batches_of_records(fitted(self._records, self.schema), self.schema)


def _record(value: Any) -> dict[str, Any] | str:
    return flat(value) if isinstance(value, dict) else f"a JSON {type(value).__name__} where an object is due"


def _is_coco(value: Mapping[str, Any]) -> bool:
    return all(isinstance(value.get(name), list) for name in ("images", "annotations"))


def _coco_records(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each caption; else one for each image with its category, or categories where some have several."""
    names = {one.get("id"): one.get("name") for one in _objects(value.get("categories", []))}
    found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for one in _objects(value["annotations"]):
        found[one.get("image_id")].append(one)
    labels = {
        image: list(dict.fromkeys(names[one["category_id"]] for one in ones if one.get("category_id") in names))
        for image, ones in found.items()
    }
    several = any(len(label) > 1 for label in labels.values())
    captions = any("caption" in one for ones in found.values() for one in ones)
    for image in _objects(value["images"]):
        base = {"file_name": image.get("file_name"), "image_id": str(image.get("id"))}
        if captions:
            for one in found[image.get("id")] or [{}]:
                yield {**base, "caption": one.get("caption")}
        elif several:
            yield {**base, "categories": labels.get(image.get("id"))}
        else:
            yield {**base, "category": next(iter(labels.get(image.get("id"), [])), None)}


def _objects(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    return (value for value in values if isinstance(value, dict))
