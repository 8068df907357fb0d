"""Built data sets below a folder that is read as a source: they are results, and left out."""

from __future__ import annotations

import os
from pathlib import Path

from phisight.core.dataset_folder import CARD, METADATA
from phisight.core.errors import PhisightError
from phisight.core.read_files import read_object
from phisight.data.images.image_names import is_hidden

_FORMAT = "phisight-dataset/"


def data_sets_below(path: Path) -> list[Path]:
    """The folders below a folder that ``phisight data build`` has written, hidden ones aside, in path order."""
    found = []
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        if here != path and CARD in names and METADATA in names and _is_card(here / CARD):
            found.append(here)
            folders.clear()
        folders[:] = sorted(name for name in folders if not is_hidden(name))
    return found


def _is_card(path: Path) -> bool:
    try:
        return str(read_object(path).get("format", "")).startswith(_FORMAT)
    except (OSError, ValueError, PhisightError):
        return False
