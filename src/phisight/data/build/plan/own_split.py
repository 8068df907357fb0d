"""The table's own split: a column that says train, validation or test is honored, and said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from phisight.core.dataset_folder import Split
from phisight.core.errors import SettingsError, some
from phisight.data.sources.base import Source
from phisight.data.sources.split_names import NAMES

COLUMNS = (
    "split", "hub_split", "folder_split", "subset", "partition", "set", "data_split", "dataset_split", "fold", "usage",
    "phase",
)  # fmt: skip
"""Columns that are looked at, in this order."""


@dataclass(frozen=True)
class OwnSplit:
    """The column, and a sentence about it with counts."""

    column: str
    sentence: str
    options: tuple[str, ...] = ()
    """The option that says it."""

    def split_of(self, cell: object) -> Split:
        """The split that a cell names."""
        return NAMES[_name(cell)]


def find_own_split(source: Source, given: str | None = None, *, honored: bool = True) -> OwnSplit | None:
    """The split column given by ``--split-column``, or one that is found by its name and its values.

    A column that is found by its name is taken when every row names a known split, and some row names train.
    SettingsError when a given column is none, or holds other values.
    """
    names = source.schema.names
    if given is not None:
        if given not in names:
            raise SettingsError(f"--split-column {given!r} is no column; the columns are {some(names, 30)}")
        candidates = [given]
    elif honored:
        lower = {name.casefold(): name for name in reversed(names)}
        candidates = [lower[name] for name in COLUMNS if name in lower]
    else:
        return None
    for column in candidates:
        counts: Counter[str] = Counter()
        for batch in source.batches():
            counts.update(_name(cell) for cell in batch.table[column].to_pylist())
        strange = [name for name in counts if name not in NAMES]
        splits = Counter(dict.fromkeys(NAMES.values(), 0))
        for name, count in counts.items():
            if name in NAMES:
                splits[NAMES[name]] += count
        if not strange and splits["train"]:
            found = ", ".join(f"{split} {count}" for split, count in splits.items())
            return OwnSplit(
                column, f"--split-column {column} ({found}); deal anew with --no-own-split", ("--split-column", column)
            )
        if given is not None:
            shown = "; ".join(f"{name or 'empty'!r} {counts[name]} rows" for name in (strange or ["train"])[:5])
            raise SettingsError(
                f"--split-column {column!r} must say train, validation (val, dev) or test in every row, and train in "
                f"some; it holds {shown}"
            )
    return None


def _name(cell: object) -> str:
    return "" if cell is None else str(cell).strip().casefold()
