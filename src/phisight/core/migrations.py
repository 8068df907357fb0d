"""Names and formats that earlier versions wrote: the one table by which what phisight once wrote opens for ever.

A reader passes what it read through ``translate`` (nested values) or ``current_names`` (columns, file names) before it
looks at a name. A recipe that a user wrote is not translated: ``renamed`` lets its error name the new key.

    kind          file                                    names
    config        RUN/config.yaml                         dotted settings
    dataset       DATASET/dataset.json                    dotted keys
    scores        RUN/scores.json                         dotted keys
    predictions   RUN/predictions.parquet                 columns, schema metadata
    checkpoint    RUN/checkpoints/checkpoint-N/, best/    file names; dotted keys of the JSON files
    cache         features/                               folder names, metadata keys
    metrics       RUN/metrics.jsonl, summary.json         names of figures

To rename something on disk: write the new name everywhere, add ``old: new`` here, nothing else. A setting that went
without a successor is ``old: None``: dropped when it is read from a run, an error in a user's recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from phisight.core.errors import PhisightError

Kind = Literal["config", "dataset", "scores", "predictions", "checkpoint", "cache", "metrics"]

RUN_FORMAT = "phisight-run/1"
"""Key ``format`` of RUN/config.yaml; folders of commits before it have none and are read as this one."""
DATASET_FORMAT: Literal["phisight-dataset/1"] = "phisight-dataset/1"
"""Key ``format`` of dataset.json."""

CONDITION_SEED = "pictures"
"""Name of the seed that deals out the images of other conditions: another one would change every recorded score."""

IMAGE_ROWS_IN_HASHES = "pictures"
"""Name under which checkpoints have always hashed the rows of several images; another one would end every resume."""

RENAMED: dict[Kind, dict[str, str | None]] = {
    "config": {},
    "dataset": {},
    "scores": {
        "before": "base_model",
        "not_checked.before": "not_checked.base_model",
        "baselines.nearest neighbour": "baselines.nearest neighbor",
    },
    "predictions": {},
    "checkpoint": {},
    "cache": {},
    "metrics": {},
}
"""Old name -> new name by kind of file. ``a.b`` is key b of the mapping a; the part ``*`` stands for any key."""


def renamed(kind: Kind, old: str) -> str | None:
    """The name that replaced ``old``: itself where it is current, None where it went without a successor."""
    for before, after in RENAMED[kind].items():
        stars = _match(before, old)
        if stars is not None:
            return None if after is None else _fill(after, stars)
    return old


def current_names(kind: Kind, names: Iterable[str]) -> dict[str, str]:
    """Current name -> the name in the file; names that went without a successor are left out."""
    found = ((renamed(kind, name), name) for name in names)
    return {new: name for new, name in found if new is not None}


def translate(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with current names; a name that is current already wins over the old one."""
    result = _copy(values)
    for before, after in RENAMED[kind].items():
        for path, stars in list(_paths(result, before.split("."))):
            value = _pop(result, path)
            if after is not None:
                _put(result, _fill(after, stars).split("."), value)
    return result


def require_format(found: object, known: str, where: object, error: type[PhisightError]) -> None:
    """``error`` when a file carries another format than ``known`` (None: written before formats were)."""
    if found is None or found == known:
        return
    raise error(
        f"{where} has the format {found!r}, and this version of phisight reads {known!r}; it was written by a newer "
        "version: install that one with pip install --upgrade phisight"
    )


def _match(pattern: str, name: str) -> list[str] | None:
    """What the stars of a pattern stand for in a name; None where it does not match."""
    parts, given = pattern.split("."), name.split(".")
    if len(parts) != len(given) or any(part not in ("*", one) for part, one in zip(parts, given, strict=True)):
        return None
    return [one for part, one in zip(parts, given, strict=True) if part == "*"]


def _fill(pattern: str, stars: list[str]) -> str:
    left = iter(stars)
    return ".".join(next(left) if part == "*" else part for part in pattern.split("."))


def _paths(values: Any, parts: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Paths that exist in nested values, with what the stars stand for."""
    if not parts:
        yield [], []
        return
    if not isinstance(values, dict):
        return
    first, *others = parts
    for key in list(values) if first == "*" else [first] if first in values else []:
        for path, stars in _paths(values[key], others):
            yield [key, *path], [key, *stars] if first == "*" else stars


def _pop(values: dict[str, Any], path: list[str]) -> Any:
    for key in path[:-1]:
        values = values[key]
    return values.pop(path[-1])


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
    values.setdefault(path[-1], value)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
