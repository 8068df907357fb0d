"""A finished build takes the place of what stood in its folder: whole, or not at all, also when it is killed.

DIR/.build/new/    rejects.jsonl, metadata.parquet, dataset.json: written here while the old data set stays readable
DIR/.build/publishing   there while the three are moved into place; a start that finds it moves the rest
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import CARD, METADATA, REJECTS, DatasetCard
from phisight.core.errors import DatasetError
from phisight.data.build.work.worklog import WORKSPACE

_NAMES = (REJECTS, METADATA, CARD)


def new_folder(folder: Path) -> Path:
    """Where the files of a build are written before they are published; made when missing."""
    path = folder / WORKSPACE / "new"
    path.mkdir(parents=True, exist_ok=True)
    return path


def publish(folder: Path) -> None:
    """Move the written files into place."""
    _marker(folder).touch()
    complete_publishing(folder)


def complete_publishing(folder: Path) -> None:
    """Go through with a publishing that was begun; nothing to do otherwise."""
    if not _marker(folder).exists():
        return
    for name in _NAMES:
        path = new_folder(folder) / name
        if path.exists():
            path.replace(folder / name)
    _marker(folder).unlink()


def is_readable(folder: Path) -> bool:
    """Whether a data set stands in the folder, finished and not half replaced."""
    return not (folder / WORKSPACE).exists() or ((folder / CARD).is_file() and not _marker(folder).exists())


def check_same_source(folder: Path, description: Mapping[str, Any]) -> None:
    """DatasetError when a data set made from another source stands in the folder."""
    if not (folder / CARD).is_file():
        return
    try:
        card = DatasetCard.read(folder)
    except DatasetError:
        return  # damaged: a build repairs it
    then, now = ({name: source.get(name) for name in ("kind", "name")} for source in (card.source, description))
    if then != now:
        raise DatasetError(
            f"{folder} holds a data set of {card.rows} rows made from {_called(then)}, and this build reads "
            f"{_called(now)}; choose another --out, or replace it with --overwrite"
        )


def _called(source: Mapping[str, Any]) -> str:
    return f"{source['name']} ({source['kind']})" if source["name"] else str(source["kind"] or "another source")


def _marker(folder: Path) -> Path:
    return folder / WORKSPACE / "publishing"
