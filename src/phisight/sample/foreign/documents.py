"""Foreign images made by people and machines: a page of text, a chart, a screen, a bar code."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from phisight.sample.foreign.surfaces import color

_LETTERS = np.array(list("aaabcdeeeefghiijklmnnoopqrrssttuuvwxyz"))
_INK = (40, 40, 46)


def words(rng: np.random.Generator, count: int) -> str:
    """Words of drawn letters."""
    return " ".join("".join(rng.choice(_LETTERS, int(rng.integers(2, 9)))) for _ in range(count))


def page(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A page of running text, perhaps in two columns."""
    image = Image.new("RGB", (width, height), color(rng, 232, 256))
    size = max(7, min(width, height) // int(rng.integers(14, 26)))
    font, columns = ImageFont.load_default(size), int(rng.integers(1, 3))
    room = width // columns
    for column in range(columns):
        block = Image.new("RGB", (room - size, height), image.getpixel((0, 0)))
        pen = ImageDraw.Draw(block)
        for top in range(size, height - size, round(1.5 * size)):
            if rng.random() < 0.9:
                pen.text((size, top), words(rng, 24), fill=_INK, font=font)
        image.paste(block, (column * room, 0))
    return image


def chart(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Bars or lines between two axes."""
    image = Image.new("RGB", (width, height), color(rng, 240, 256))
    pen, left, bottom = ImageDraw.Draw(image), 0.12 * width, 0.88 * height
    for share in np.linspace(0.2, 1, 5):
        y = float(bottom - share * 0.75 * height)
        pen.line([(left, y), (0.95 * width, y)], fill=(222, 222, 226))
    count = int(rng.integers(4, 12))
    positions = np.linspace(left + 6, 0.93 * width, count + 1)
    if rng.random() < 0.5:
        fill = color(rng, 40, 200)
        for (start, end), share in zip(pairwise(positions), rng.uniform(0.05, 1, count), strict=True):
            pen.rectangle([start, bottom - share * 0.75 * height, start + 0.7 * (end - start), bottom], fill=fill)
    else:
        for _ in range(int(rng.integers(1, 4))):
            heights = bottom - rng.uniform(0, 1, count + 1) * 0.75 * height
            line = list(zip(positions.tolist(), heights.tolist(), strict=True))
            pen.line(line, fill=color(rng, 20, 190), width=max(2, height // 120))
    pen.line([(left, 0.08 * height), (left, bottom), (0.95 * width, bottom)], fill=_INK, width=2)
    pen.text((left, 0.03 * height), words(rng, 3), fill=_INK, font=ImageFont.load_default(max(8, height // 18)))
    return image


def screen(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Windows of a computer's screen, with bars and lines of text."""
    image = Image.new("RGB", (width, height), color(rng, 20, 140))
    pen, bar = ImageDraw.Draw(image), max(8, height // 16)
    font = ImageFont.load_default(max(7, round(bar * 0.7)))
    for _ in range(int(rng.integers(1, 4))):
        left, top = float(rng.uniform(0, 0.4) * width), float(rng.uniform(0, 0.4) * height)
        right, bottom = left + float(rng.uniform(0.45, 0.6) * width), top + float(rng.uniform(0.4, 0.55) * height)
        pen.rectangle([left, top, right, bottom], fill=color(rng, 225, 256), outline=_INK)
        pen.rectangle([left, top, right, top + bar], fill=color(rng, 40, 200))
        for line in range(int((bottom - top) / bar / 1.6) - 1):
            pen.rectangle(
                [left + bar, top + (1.6 * line + 1.8) * bar, left + 2 * bar, top + (1.6 * line + 2.4) * bar], fill=_INK
            )
            pen.text((left + 3 * bar, top + (1.6 * line + 1.6) * bar), words(rng, 2), fill=_INK, font=font)
    pen.rectangle([0, height - bar, width, height], fill=color(rng, 0, 60))
    return image


def bar_code(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A bar code, or a square code of black and white cells, on a label."""
    image = Image.new("RGB", (width, height), color(rng, 150, 256))
    pen, margin = ImageDraw.Draw(image), 0.15 * min(width, height)
    if rng.random() < 0.5:
        pen.rectangle([margin / 2, margin / 2, width - margin / 2, height - margin / 2], fill="white")
        x = margin
        while x < width - margin:
            thick = float(rng.integers(1, 5)) * width / 160
            pen.rectangle([x, margin, x + thick, height - 1.6 * margin], fill=_INK)
            x += thick + float(rng.integers(1, 5)) * width / 160
        code = " ".join(str(one) for one in rng.integers(0, 10, 12))
        pen.text(
            (margin, height - 1.4 * margin), code, fill=_INK, font=ImageFont.load_default(max(8, round(margin / 2)))
        )
        return image
    cells = int(rng.integers(15, 33))
    side = round(min(width, height) - 2 * margin)
    code_cells = np.where(rng.random((cells, cells)) < 0.5, 255, 20).astype(np.uint8)
    square = Image.fromarray(code_cells).resize((side, side), Image.Resampling.NEAREST)
    image.paste(square.convert("RGB"), ((width - side) // 2, (height - side) // 2))
    return image
