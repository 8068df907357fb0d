"""What train, validation and test are called in tables, file names and folders."""

from __future__ import annotations

import re

from phisight.core.dataset_folder import Split

NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "tr": "train", "learn": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation", "eval": "validation",
    "development": "validation", "validate": "validation",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test", "hold-out": "test",
}  # fmt: skip
"""What splits are called, in any case, and what they are called here."""
_PARTS = re.compile(r"[^a-z]+")


def split_of_name(name: str) -> Split | None:
    """The split that a file's stem or a folder's name names: ``train-00000-of-00002``, ``val2017``, ``shop_test``."""
    text = name.casefold()
    words = [word for word in _PARTS.split(text) if word]
    found = [NAMES[word] for word in (text, *words[:1], *words[-1:]) if word in NAMES]
    return found[0] if found else None


def splits_of(names: list[str]) -> dict[str, Split] | None:
    """The split of each name; none where one has no split, or where train or a second split is missing."""
    found = {name: split for name in names if (split := split_of_name(name)) is not None}
    kinds = set(found.values())
    return found if len(found) == len(names) and "train" in kinds and len(kinds) > 1 else None
