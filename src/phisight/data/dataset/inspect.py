"""Describe a data set from its folder alone: numbers, then the same numbers as text and as one page to look at."""

from __future__ import annotations

import base64
import io
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from phisight.core.dataset_folder import GROUP, HEIGHT, SHA256, SPLIT, WIDTH
from phisight.core.errors import DataError, DatasetError
from phisight.core.geometry import image_tokens
from phisight.core.read_files import read_objects
from phisight.core.run_folder import write_text_atomically
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.rejection import KINDS

NUM_CROPS = (1, 4, 16)
_CATEGORIES_SHOWN = 25
_SHEET_IMAGES = 48
_THUMBNAIL = 144
_REJECTS_SHOWN = 20


@dataclass(frozen=True)
class Spread:
    """How numbers are distributed: count, smallest, quartiles, largest."""

    count: int
    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(1, *[float(values[0])] * 5)
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(len(values), float(min(values)), low, middle, high, float(max(values)))


@dataclass(frozen=True)
class CategoryLine:
    """One category: rows in all and by split, and its prices."""

    name: str
    rows: int
    splits: dict[str, int]
    prices: Spread | None


@dataclass(frozen=True)
class Description:
    """Figures of a data set."""

    name: str
    prompt: str
    answer: str
    example: str
    rows: int
    rejected: int
    splits: dict[str, int]
    category_field: str | None
    categories: list[CategoryLine]
    other_categories: int
    number_field: str | None
    prices: Spread | None
    widths: Spread | None
    heights: Spread | None
    tokens: dict[int, Spread]
    """Image tokens by num_crops."""
    groups: int
    grouped_rows: int
    """Rows that share their group with another row."""
    same_images: int
    rejects: dict[str, int]
    reject_examples: list[dict[str, Any]]
    findings: list[dict[str, Any]] = field(default_factory=list)


def describe(data: DatasetFolder) -> Description:
    """Read the table, the card and the rejects; images are not opened."""
    rows = data.rows()
    categories, numbers = data.task.of_kind("category"), data.task.of_kind("number")
    lines = _category_lines(rows, categories[0] if categories else None, numbers[0] if numbers else None)
    sizes = [(row[WIDTH], row[HEIGHT]) for row in rows] if {WIDTH, HEIGHT} <= set(data.table.column_names) else []
    group_counts = Counter(row[GROUP] for row in rows) if GROUP in data.table.column_names else Counter()
    image_counts = Counter(row[SHA256] for row in rows) if SHA256 in data.table.column_names else Counter()
    rejects, examples = _rejects(data)
    return Description(
        name=data.path.resolve().name,
        prompt=data.task.prompt,
        answer=data.task.answer,
        example=data.task.render(rows[0]) if rows else "",
        rows=len(rows),
        rejected=data.card.rejected,
        splits={name: count for name, count in data.card.splits.items() if count},
        category_field=categories[0] if categories else None,
        categories=lines[:_CATEGORIES_SHOWN],
        other_categories=max(0, len(lines) - _CATEGORIES_SHOWN),
        number_field=numbers[0] if numbers else None,
        prices=_spread(rows, numbers[0]) if numbers else None,
        widths=Spread.of([width for width, _ in sizes]) if sizes else None,
        heights=Spread.of([height for _, height in sizes]) if sizes else None,
        tokens=_token_spreads(sizes),
        groups=len(group_counts),
        grouped_rows=sum(count for count in group_counts.values() if count > 1),
        same_images=sum(count for count in image_counts.values() if count > 1),
        rejects=rejects,
        reject_examples=examples,
        findings=data.findings,
    )


def _category_lines(rows: list[dict[str, Any]], category: str | None, number: str | None) -> list[CategoryLine]:
    """Categories, the largest first."""
    if category is None:
        return []
    members: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        members.setdefault(str(row[category]), []).append(row)
    return [
        CategoryLine(
            name,
            len(found),
            dict(Counter(str(row[SPLIT]) for row in found)),
            _spread(found, number) if number else None,
        )
        for name, found in sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _spread(rows: list[dict[str, Any]], number: str) -> Spread | None:
    values = [float(row[number]) for row in rows if row[number] is not None]
    return Spread.of(values) if values else None


def _token_spreads(sizes: list[tuple[int, int]]) -> dict[int, Spread]:
    """Image tokens for each num_crops; images too elongated for a grid are left out."""
    found = {}
    for crops in NUM_CROPS:
        by_size = {size: _tokens(size, crops) for size in set(sizes)}
        values = [tokens for size in sizes if (tokens := by_size[size]) is not None]
        if values:
            found[crops] = Spread.of(values)
    return found


def _tokens(size: tuple[int, int], crops: int) -> int | None:
    try:
        return image_tokens(*size, crops)
    except DataError:
        return None


def _rejects(data: DatasetFolder) -> tuple[dict[str, int], list[dict[str, Any]]]:
    counts: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    if data.rejects_path.is_file():
        try:
            for line in read_objects(data.rejects_path):
                counts[str(line["kind"])] += 1
                if len(examples) < _REJECTS_SHOWN:
                    examples.append({name: line.get(name, "") for name in ("row", "key", "url", "kind", "reason")})
        except (OSError, ValueError, KeyError) as error:
            raise DatasetError(f"{data.rejects_path} cannot be read: {error}; build the folder again") from error
    return dict(counts.most_common()), examples


def text(description: Description) -> RenderableType:
    """The description for a terminal."""
    d = description
    splits = ", ".join(f"{name} {count}" for name, count in d.splits.items())
    parts: list[RenderableType] = [
        Text(f"{d.name}: {d.rows} rows ({splits}), {d.rejected} rejected"),
        Text(f"question: {d.prompt}\nanswer:   {d.example}"),
        Text(f"groups:   {d.groups}; {d.grouped_rows} rows share theirs, {d.same_images} share their very image"),
    ]
    if d.categories:
        table = Table(d.category_field or "", "rows", *d.splits, "low", "median", "high")
        for line in d.categories:
            counts = [str(line.splits.get(name, 0)) for name in d.splits]
            prices = line.prices
            shown = [f"{v:g}" for v in (prices.low, prices.median, prices.high)] if prices else ["", "", ""]
            table.add_row(Text(line.name), str(line.rows), *counts, *shown)
        parts.append(table)
        if d.other_categories:
            parts.append(Text(f"and {d.other_categories} smaller categories"))
    if d.tokens:
        table = Table("num_crops", "image tokens: low", "median", "high")
        for crops, spread in d.tokens.items():
            table.add_row(str(crops), *(f"{v:g}" for v in (spread.low, spread.median, spread.high)))
        parts.append(table)
    if d.rejects:
        table = Table("rejected", "rows", "meaning")
        for kind, count in d.rejects.items():
            table.add_row(Text(kind), str(count), KINDS[kind][1] if kind in KINDS else "")
        parts.append(table)
    parts += [Text(f"finding: {f['count']} x {f['meaning']}") for f in d.findings]
    return Group(*parts)


def page(data: DatasetFolder, description: Description, target: Path) -> None:
    """Write the description as one self-contained HTML file with a contact sheet."""
    environment = Environment(
        loader=PackageLoader("phisight.data.dataset", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["place"] = _place
    top = max((line.prices.high for line in description.categories if line.prices), default=1.0) or 1.0
    html = environment.get_template("inspect.html.jinja").render(
        d=description,
        sheet=_contact_sheet(data),
        most=max((line.rows for line in description.categories), default=1),
        top=top,
        kinds=KINDS,
    )
    write_text_atomically(target, html)


def _place(value: float, top: float) -> float:
    """Pixels from the left where a price is drawn: square roots, so that one high price leaves room for the others."""
    return round(272 * math.sqrt(max(value, 0.0) / top), 1)


def _contact_sheet(data: DatasetFolder) -> list[dict[str, str]]:
    """Thumbnails of rows evenly spaced over the table, with answer, key and split."""
    rows = data.rows()
    step = max(1, len(rows) / _SHEET_IMAGES)
    chosen = [rows[int(at * step)] for at in range(min(len(rows), _SHEET_IMAGES))]
    return [
        {
            "image": _thumbnail(data.load_image(row)),
            "answer": data.task.render(row),
            "key": str(row[data.card.key]),
            "split": str(row[SPLIT]),
        }
        for row in chosen
    ]


def _thumbnail(image: Image.Image) -> str:
    """A small JPEG as a data address."""
    small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
