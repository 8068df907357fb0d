"""A contact sheet: the first images of a sample with their titles and prices, to be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageOps

from phisight.core.dataset_folder import FILE_NAME, METADATA, DatasetCard

_TEXT = 30


def contact_sheet(folder: Path, count: int = 48, columns: int = 8, cell: int = 160) -> Image.Image:
    """An RGB image of up to ``count`` products of a data set folder, ``cell`` pixels each."""
    names = DatasetCard.read(folder).task.names
    rows: list[dict[str, Any]] = pq.read_table(folder / METADATA).slice(0, count).to_pylist()
    high = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * cell, high * (cell + _TEXT)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, row in enumerate(rows):
        x, y = place % columns * cell, place // columns * (cell + _TEXT)
        try:
            with Image.open(folder / row[FILE_NAME]) as opened:
                image = ImageOps.contain(opened.convert("RGB"), (cell - 6, cell - 6))
        except OSError:  # a planted fault: a gray field in its place
            image = Image.new("RGB", (cell - 6, cell - 6), (120, 120, 120))
        sheet.paste(image, (x + (cell - image.width) // 2, y + (cell - image.height) // 2))
        for step, name in enumerate((names[0], names[-1])):
            text = f"{row[name]:,.0f}" if isinstance(row[name], float) else str(row[name])
            while draw.textlength(text) > cell - 4:
                text = text.removesuffix("…")[:-1].rstrip() + "…"
            draw.text((x + 4, y + cell + 13 * step), text, fill=(40, 40, 44) if step == 0 else (150, 30, 40))
    return sheet
