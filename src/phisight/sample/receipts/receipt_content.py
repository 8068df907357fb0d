"""What stands on a receipt: a function of the seed and the row alone."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass

from phisight.core.seeding import named_seed
from phisight.core.task import Task

SHOPS = ("CORNER MARKET", "GREEN GROCER", "NIGHT KIOSK", "STATION CAFE", "BOOK BARN", "GARDEN SHED")
GOODS = {
    "apples": 240, "bread": 310, "butter": 285, "candles": 450, "cheese": 620, "coffee": 390, "cookies": 275,
    "eggs": 330, "envelopes": 180, "honey": 540, "jam": 360, "lemons": 210, "magazine": 480, "milk": 145,
    "notebook": 395, "olives": 425, "pasta": 190, "pens": 260, "postcard": 120, "rice": 230, "seeds": 175,
    "soap": 340, "tea": 415, "water": 95,
}  # fmt: skip
"""What is sold, and its price in cents."""
NOTES = ("thank you", "see you soon", "open every day", "no refunds", "have a nice day", "ask for our card")
_FIRST_DAY = datetime.date(2022, 1, 1)
_DAYS = 4 * 365
_MOST_ITEMS, _TIPPED = 5, 0.4
TASK = Task.model_validate(
    {
        "prompt": "What does this receipt say?",
        "answer": "{shop}, {day}: {items}. Pieces {pieces}, total {total}, tip {tip}, by card {card}; {note}",
        "fields": {
            "shop": "category",
            "day": "date",
            "items": "list:category",
            "pieces": "integer",
            "total": "number:2",
            "tip": "number?:2",
            "card": "boolean",
            "note": "text",
        },
    }
)


@dataclass(frozen=True)
class Receipt:
    """One receipt; money in cents."""

    shop: str
    day: datetime.date
    lines: tuple[tuple[str, int, int], ...]
    """Name, pieces and price of the line."""
    tip: int | None
    card: bool
    note: str

    @property
    def pieces(self) -> int:
        """How many things were bought."""
        return sum(pieces for _, pieces, _ in self.lines)

    @property
    def total(self) -> int:
        """Sum of the lines and the tip, cents."""
        return sum(price for _, _, price in self.lines) + (self.tip or 0)

    def fields(self) -> dict[str, object]:
        """The fields of the task."""
        return {
            "shop": self.shop,
            "day": self.day,
            "items": [name for name, _, _ in self.lines],
            "pieces": self.pieces,
            "total": self.total / 100,
            "tip": None if self.tip is None else self.tip / 100,
            "card": self.card,
            "note": self.note,
        }


def receipt_of(seed: int, row: int) -> Receipt:
    """The receipt of a row."""
    draw = random.Random(named_seed(seed, "receipt", row))  # noqa: S311 - a drawn sample is no secret
    names = draw.sample(sorted(GOODS), draw.randint(1, _MOST_ITEMS))
    lines = []
    for name in names:
        pieces = draw.choice((1, 1, 1, 2, 3))
        lines.append((name, pieces, pieces * GOODS[name]))
    return Receipt(
        shop=draw.choice(SHOPS),
        day=_FIRST_DAY + datetime.timedelta(days=draw.randrange(_DAYS)),
        lines=tuple(lines),
        tip=draw.randrange(50, 400, 10) if draw.random() < _TIPPED else None,
        card=draw.random() < 0.5,
        note=draw.choice(NOTES),
    )
