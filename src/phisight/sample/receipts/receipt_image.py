"""A receipt on paper, photographed from above."""

from __future__ import annotations

import io
import random

from PIL import Image, ImageDraw, ImageFont

from phisight.core.seeding import named_seed
from phisight.sample.receipts.receipt_content import Receipt

_WIDTH, _MARGIN, _STEP, _SIZE = 288, 20, 22, 16
_INK = (38, 38, 44)


def draw_receipt(receipt: Receipt, seed: int, row: int) -> Image.Image:
    """The image, RGB; paper, table and tilt follow from seed and row."""
    draw = random.Random(named_seed(seed, "receipt image", row))  # noqa: S311 - a drawn sample is no secret
    paper = _paper(receipt, tuple(draw.randint(240, 252) for _ in range(3)))
    table = tuple(draw.randint(60, 190) for _ in range(3))
    turned = paper.rotate(draw.uniform(-3, 3), Image.Resampling.BICUBIC, expand=True)
    image = Image.new("RGB", (turned.width + 2 * _MARGIN, turned.height + 2 * _MARGIN), table)
    image.paste(turned.convert("RGB"), (_MARGIN, _MARGIN), turned.getchannel("A"))
    return image


def encoded(image: Image.Image) -> bytes:
    """The image as a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def _paper(receipt: Receipt, color: tuple[int, ...]) -> Image.Image:
    lines = [(receipt.shop, ""), (receipt.day.isoformat(), ""), ("", "")]
    lines += [(f"{pieces} x {name}", _money(price)) for name, pieces, price in receipt.lines]
    lines += [("", ""), *([("TIP", _money(receipt.tip))] if receipt.tip is not None else [])]
    lines += [
        ("TOTAL", _money(receipt.total)),
        ("PAID BY", "CARD" if receipt.card else "CASH"),
        ("", ""),
        (receipt.note, ""),
    ]
    paper = Image.new("RGBA", (_WIDTH, _STEP * len(lines) + 2 * _MARGIN), (*color, 255))
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(_SIZE)
    for number, (left, right) in enumerate(lines):
        top = _MARGIN + number * _STEP
        pen.text((_MARGIN, top), left, fill=_INK, font=font)
        if right:
            pen.text((_WIDTH - _MARGIN, top), right, fill=_INK, font=font, anchor="ra")
    return paper


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"
