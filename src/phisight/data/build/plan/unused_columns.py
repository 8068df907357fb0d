"""Columns that a guessed answer leaves out: each is named, with the reason and the option that takes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from phisight.core.dataset_folder import FILE_NAME, GROUP, HEIGHT, SHA256, SPLIT, WIDTH
from phisight.core.errors import some
from phisight.data.build.plan.profile import ColumnProfile

OWN = (FILE_NAME, SPLIT, GROUP, SHA256, WIDTH, HEIGHT, "source_row", "source_token")
"""Columns of a finished data set that say nothing about its images, those called ``image_...`` aside."""
FITS = 0.95
"""Share of the cells that must be of a kind for a column to be guessed to be of it."""
FULL = 0.9
"""Share of the cells that must hold something, more than that, for a column to be guessed by its content."""
IMAGES = 0.05
"""Share of the cells from which on a column is one of images."""
MANY = 200
"""Most values of a column that is guessed to be a category."""
_NEAR = 0.5
_LINES, _NAMES, _LONGEST = 5, 12, 40
_KINDS = ("list", "boolean", "date", "integer", "number")
_BESIDE = "beside the fields above, named in --answer"
_TAKES = f"takes one {_BESIDE}"


def not_in_answer(unused: Mapping[str, ColumnProfile], names_of_files: Collection[str] = ()) -> list[str]:
    """A sentence for each column that nearly is of a kind, and one that names all other unused columns."""
    near = {name: reason for name, column in unused.items() if (reason := near_miss(column))}
    lines = [
        f"not in the answer: {name} ({near[name]}); take it with --field {name}:{_near_kind(unused[name])} {_BESIDE}, "
        "which rejects such rows"
        for name in list(near)[:_LINES]
    ]
    groups: dict[str, list[str]] = {}
    for name in unused:
        if name in list(near)[:_LINES]:
            continue
        reason, shown = ("names of files", name) if name in names_of_files else _reason(name, unused[name])
        groups.setdefault(reason, []).append(shown)
    parts = [f"{some(names, _NAMES)} ({reason})" for reason, names in groups.items()]
    return [*lines, *([f"not in the answer: {'; '.join(parts)}"] if parts else [])]


def near_miss(column: ColumnProfile) -> str:
    """What keeps a column from being of a kind, with the first value that is not; empty where nothing does."""
    kind = _near_kind(column)
    if not kind:
        return ""
    count, first = column.unlike[kind]
    verb = "is" if count == 1 else "are"
    return f"{count} of {column.rows} values looked at {verb} no {kind}: {first[:_LONGEST]!r}"


def _near_kind(column: ColumnProfile) -> str:
    """The kind that at least half of a column's cells are of, but not enough of them; empty where there is none."""
    shares = _shares(column)
    if column.images > IMAGES or max(shares.values()) > FITS:
        return ""
    likely = [kind for kind in _KINDS if kind != "list" and kind in column.unlike]
    return max(likely, key=lambda kind: shares[kind], default="")


def _reason(name: str, column: ColumnProfile) -> tuple[str, str]:
    """Why a column is no field, and its name as it is shown: with its only value, or the kind that takes it."""
    kind = _near_kind(column)
    if kind:
        return f"some values are of no such kind; --field {_TAKES} and rejects their rows", f"{name}:{kind}"
    if not column.filled:
        return "empty", name
    if column.images > IMAGES:
        return "images, or where they are", name
    if name in OWN or name.startswith("image_"):
        return "names that a built data set uses", name
    if not column.rows:
        return "nested values", name
    if column.distinct == 1:
        value = f"{name} {column.first[:_LONGEST]!r}"
        return "always the same", value if column.filled == 1 else f"{value} or empty"
    if column.unique and column.words == 1 and max(_shares(column).values()) < _NEAR:
        return "a code for each row", name
    if column.filled <= FULL:
        return f"empty in some rows; --field {_TAKES}", f"{name}:{_kind(column)}?"
    return f"other columns were taken; --field {_TAKES}", f"{name}:{_kind(column)}"


def _kind(column: ColumnProfile) -> str:
    shares = _shares(column)
    fitting = next((kind for kind in _KINDS if shares[kind] > FITS), None)
    return fitting or ("text" if column.unique or column.distinct > MANY else "category")


def _shares(column: ColumnProfile) -> dict[str, float]:
    return {kind: column.numbers if kind == "number" else column.shares.get(kind, 0.0) for kind in _KINDS}
