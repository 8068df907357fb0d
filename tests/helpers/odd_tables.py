"""Tables as people and programs write them, each with its verdict: the rows that are kept, or an error.

    odd_tables(1200)  -> OddTable(name, data, options, kept {key: (title, price)}, rejected, or error)

A table is a draw of one of each: encoding, delimiter, quoting, style of numbers, line ends, layout, damage. What must
come of it follows from how it was made, not from a reader.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

IMAGES = 8
"""Images that the tables name: photos/0.jpg ... photos/7.jpg."""
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "shift_jis", "undeclared")
DELIMITERS = (",", ";", "\t", "|")
QUOTINGS = ("minimal", "all", "space", "backslash", "single")
NUMBERS = ("1234.50", "$1,234.50", "1.234,50", "1.234,50 €", "1 234,50")
ENDS = ("\n", "\r\n", "\r")
LAYOUTS = (
    "plain", "sep", "comments", "blank lines", "title line", "index", "no header", "trailing", "padding", "spaces",
    "twice", "unnamed",
)  # fmt: skip
DAMAGES = ("none", "unclosed", "long", "short", "nul", "cut", "no title", "no number", "no image", "no file")
REJECTED = {"unclosed", "long", "short", "cut", "no title", "no number", "no image", "no file"}
"""Damages that cost the damaged row, and no other one."""
_TITLES = {"cp1252": "Café für {n}", "undeclared": "Café für {n}", "shift_jis": "赤いドレス {n}"}


@dataclass(frozen=True)
class OddTable:
    """A file and what must come of it."""

    name: str
    """What was drawn."""
    file: str
    """The file's name."""
    data: bytes
    fields: dict[str, str]
    """Column of the key, the title, the price and the image."""
    encoding: str = ""
    """What ``--encoding`` says; empty: nothing."""
    kept: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Title and price by key."""
    rejected: int = 0
    error: str = ""
    """What the one line names, where nothing can be kept."""


def odd_tables(count: int, seed: int = 0) -> list[OddTable]:
    """So many different tables; the first ones are the same for every count."""
    axes = (ENCODINGS, DELIMITERS, QUOTINGS, NUMBERS, ENDS, LAYOUTS, DAMAGES)
    every = [combination for combination in itertools.product(*axes) if _makes_sense(*combination)]
    drawn = random.Random(seed).sample(every, count)
    return [_table(*combination) for combination in drawn]


def _makes_sense(encoding: str, delimiter: str, quoting: str, number: str, end: str, layout: str, damage: str) -> bool:
    return not (
        (encoding == "shift_jis" and "€" in number)
        or (damage == "unclosed" and quoting in ("single", "backslash"))
        or (layout == "trailing" and damage in ("long", "short", "cut"))
        or (layout == "no header" and damage in ("no image", "no file", "unclosed"))
    )


def _table(encoding: str, delimiter: str, quoting: str, number: str, end: str, layout: str, damage: str) -> OddTable:
    hurt = 3
    title = _TITLES.get(encoding, "Thing {n}") + f"{delimiter} red"
    if quoting == "backslash":
        title = f'5" {title}'
    titles = [title.format(n=n) if n % 2 or quoting != "minimal" else f"Thing {n}" for n in range(IMAGES)]
    values = [n * 1111.25 + 0.5 for n in range(1, IMAGES + 1)]
    rows = [[f"p{n}", titles[n], _written(values[n], number), f"photos/{n}.jpg"] for n in range(IMAGES)]
    changed = {"no title": (1, ""), "no number": (2, "on request"), "no image": (3, ""), "no file": (3, "photos/9.jpg")}
    if damage in changed:
        at, cell = changed[damage]
        rows[hurt][at] = cell
    if damage == "nul":
        rows[hurt][1] = rows[hurt][1].replace("i", "i\0", 1)
    header, rows, names = _laid_out(rows, layout)
    lines = [_line(row, delimiter, quoting) for row in rows]
    column = names.index("title")
    if damage == "unclosed":
        cells = [_cell(cell, delimiter, quoting) for cell in rows[hurt]]
        cells[column] = '"' + cells[column].strip().strip('"')
        lines[hurt] = delimiter.join(cells)
    elif damage == "long":
        lines[hurt] += f"{delimiter}more"
    elif damage in ("short", "cut"):
        hurt = hurt if damage == "short" else IMAGES - 1
        lines[hurt] = _line(rows[hurt][: column + 1], delimiter, quoting)
    if layout == "trailing":
        lines = [line + delimiter for line in lines]
    head = [_line(header, delimiter, quoting)] if header else []
    text = end.join([*_before(layout, delimiter), *head, *lines]) + ("" if damage == "cut" else end)
    if layout == "blank lines":
        text = end + text.replace(end, end + end)
    if layout == "padding":
        text += f"{delimiter * 3}{end}" * 3
    kept = {f"p{n}": (titles[n], values[n]) for n in range(IMAGES) if n != hurt or damage not in REJECTED}
    place = {name: f"column_{names.index(name) + 1}" if layout == "no header" else name for name in _FIELDS}
    declared = encoding if encoding in ("cp1252", "shift_jis") else ""
    return OddTable(
        " ".join(map(repr, (encoding, delimiter, quoting, number, end, layout, damage))),
        "t.csv",
        text.encode("cp1252" if encoding == "undeclared" else encoding),
        place,
        declared,
        {} if encoding == "undeclared" else kept,
        IMAGES - len(kept),
        r"byte \d+ is no utf-8.*--encoding cp1252" if encoding == "undeclared" else "",
    )


_FIELDS = ("sku", "title", "price", "photo")


def _written(value: float, style: str) -> str:
    whole, cents = divmod(round(value * 100), 100)
    grouped = f"{whole:,}"
    return {
        "1234.50": f"{whole}.{cents:02}",
        "$1,234.50": f"${grouped}.{cents:02}",
        "1.234,50": f"{grouped.replace(',', '.')},{cents:02}",
        "1.234,50 €": f"{grouped.replace(',', '.')},{cents:02} €",
        "1 234,50": f"{grouped.replace(',', ' ')},{cents:02}",
    }[style]


def _laid_out(rows: list[list[str]], layout: str) -> tuple[list[str], list[list[str]], list[str]]:
    """The header as it is written (none: no header), the rows, and what each column is."""
    names = list(_FIELDS)
    if layout == "index":
        return ["", *names], [[str(at), *row] for at, row in enumerate(rows)], ["", *names]
    if layout == "twice":
        return [*names, "tag", "tag"], [[*row, "a", "b"] for row in rows], [*names, "tag", "tag"]
    if layout == "unnamed":
        return [*names, ""], [[*row, "x"] for row in rows], [*names, ""]
    if layout == "spaces":
        return [f" {name} " for name in names], rows, names
    return [] if layout == "no header" else names, rows, names


def _before(layout: str, delimiter: str) -> list[str]:
    return {
        "sep": [f"sep={delimiter}"],
        "comments": ["# exported by the shop", "# on a Monday"],
        "title line": [f"Catalogue{delimiter * 3}", delimiter * 3],
    }.get(layout, [])


def _line(row: list[str], delimiter: str, quoting: str) -> str:
    return delimiter.join(_cell(cell, delimiter, quoting) for cell in row)


def _cell(cell: str, delimiter: str, quoting: str) -> str:
    needed = delimiter in cell or '"' in cell
    if quoting == "all":
        return '"' + cell.replace('"', '""') + '"'
    if quoting == "single":
        return f"'{cell}'"
    if not needed:
        return cell
    if quoting == "backslash":
        return '"' + cell.replace('"', '\\"') + '"'
    return (" " if quoting == "space" else "") + '"' + cell.replace('"', '""') + '"'


def record_tables() -> Iterator[OddTable]:
    """JSON arrays and JSON Lines with every damage that a record can have."""
    for lines, number, damage in itertools.product((True, False), NUMBERS, ("none", "text", "list", "no title", "nan")):
        values = [n * 1111.25 + 0.5 for n in range(1, IMAGES + 1)]
        rows: list[object] = [
            {"sku": f"p{n}", "title": f"Thing {n}", "price": _written(values[n], number), "photo": f"photos/{n}.jpg"}
            for n in range(IMAGES)
        ]
        if damage == "no title":
            rows[3] = {"sku": "p3", "price": _written(values[3], number), "photo": "photos/3.jpg"}
        elif damage != "none":
            rows[3] = {"text": "words", "list": ["p3"], "nan": float("nan")}[damage]
        texts = [json.dumps(row) for row in rows]
        data = "\n".join(texts) if lines else f"[{','.join(texts)}]"
        kept = {f"p{n}": (f"Thing {n}", values[n]) for n in range(IMAGES) if n != 3 or damage == "none"}
        name = f"{'lines' if lines else 'array'} {number!r} {damage}"
        fields = {name: name for name in _FIELDS}
        file = "t.jsonl" if lines else "t.json"
        yield OddTable(name, file, data.encode(), fields, "", kept, IMAGES - len(kept))
