"""Which image goes with an imitated row: words of its title and categories find kind, color, pattern, material."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from phisight.sample.catalogue.products import (
    COLORS,
    DEMO_COLORS,
    HARDWARE,
    KINDS,
    MATERIALS,
    PATTERNS,
    Color,
    Product,
)

PARCEL = "parcel"
"""Drawn for what no word of the row names: a labeled box."""

_WORDS: dict[str, str] = {
    "trench": "trench_coat", "coat": "wool_coat", "overcoat": "wool_coat", "parka": "puffer_jacket",
    "puffer": "puffer_jacket", "down": "puffer_jacket", "jacket": "bomber_jacket", "bomber": "bomber_jacket",
    "windbreaker": "bomber_jacket", "blazer": "blazer", "suit": "blazer", "tailoring": "blazer", "gilet": "gilet",
    "vest": "gilet", "cape": "cape", "poncho": "cape", "polo": "polo_shirt", "tee": "t_shirt", "tank": "t_shirt",
    "tshirt": "t_shirt", "top": "t_shirt", "shirt": "shirt", "blouse": "shirt", "sweater": "sweater",
    "pullover": "sweater", "jumper": "sweater", "knitwear": "sweater", "cardigan": "cardigan", "hoodie": "hoodie",
    "sweatshirt": "hoodie", "hooded": "hoodie", "bra": "swimsuit", "swimsuit": "swimsuit", "swimwear": "swimsuit",
    "bikini": "swimsuit", "dress": "dress", "gown": "dress", "jean": "jeans", "denim": "jeans", "trouser": "trousers",
    "pant": "trousers", "capri": "trousers", "legging": "trousers", "tight": "trousers", "chino": "trousers",
    "short": "shorts",
    "skirt": "skirt", "kilt": "kilt", "tie": "tie", "sneaker": "sneaker", "trainer": "sneaker", "shoe": "sneaker",
    "boot": "boot", "loafer": "loafer", "oxford": "loafer", "derby": "loafer", "pump": "pump", "heel": "pump",
    "sandal": "sandal", "slide": "sandal", "sock": "socks", "tote": "tote_bag", "duffle": "tote_bag",
    "duffel": "tote_bag", "messenger": "shoulder_bag", "crossbody": "shoulder_bag", "bag": "shoulder_bag",
    "briefcase": "shoulder_bag", "backpack": "backpack", "rucksack": "backpack", "bucket": "bucket_bag",
    "clutch": "clutch", "pouch": "clutch", "wallet": "wallet", "card": "wallet", "belt": "belt", "strap": "belt",
    "umbrella": "umbrella", "scarf": "scarf", "scarves": "scarf", "shawl": "scarf", "silk": "square_scarf",
    "fedora": "fedora", "hat": "bucket_hat", "cap": "cap", "beanie": "beanie", "glove": "gloves", "mitten": "gloves",
    "sunglass": "sunglasses", "glass": "sunglasses", "eyewear": "sunglasses", "watch": "watch", "earring": "earrings",
    "necklace": "necklace", "pendant": "necklace", "ring": "ring", "bracelet": "bracelet", "bangle": "bracelet",
    "perfume": "perfume", "parfum": "perfume", "fragrance": "perfume",
}  # fmt: skip
_TINTS: dict[str, Color] = {
    **{name.lower(): rgb for name, rgb in DEMO_COLORS.items()},
    "navy": (34, 46, 86), "gray": (128, 130, 134), "grey": (128, 130, 134), "orange": (232, 120, 44),
    "purple": (104, 58, 140), "beige": (206, 180, 142), "camel": (184, 132, 80), "burgundy": (104, 26, 44),
    "olive": (104, 106, 58), "tan": (196, 154, 108), "gold": (212, 172, 76), "silver": (190, 194, 200),
}  # fmt: skip
_FIRST_WORDS = {word.lower().split()[0]: name for name, (word, _) in PATTERNS.items() if word}
_FABRICS = {word.lower().split()[-1]: name for name, (word, _) in MATERIALS.items() if word}


@lru_cache(maxsize=65536)
def _stems(text: str) -> tuple[str, ...]:
    words = re.findall(r"[a-z]+", text.lower().replace("t-shirt", "tshirt").replace("t- shirt", "tshirt"))
    return tuple(
        next((form for form in (word, word.removesuffix("s"), word.removesuffix("es")) if form in _WORDS), word)
        for word in words
    )


def depict(title: str, categories: list[str], rng: np.random.Generator) -> tuple[Product, Color]:
    """What to draw for a row, and in which color; ``categories`` from coarse to fine."""
    names = [title, *reversed(categories)]
    kind = next((_WORDS[word] for text in names for word in reversed(_stems(text)) if word in _WORDS), PARCEL)
    words = _stems(title)
    tint = next((_TINTS[word] for word in words if word in _TINTS), None)
    if tint is None:
        spoken = [rgb for name, rgb in COLORS.items() if name.lower() in title.lower()]
        tint = spoken[0] if spoken else list(COLORS.values())[int(rng.integers(len(COLORS)))]
    pattern = next((_FIRST_WORDS[word] for word in words if word in _FIRST_WORDS), None)
    if pattern is None:
        pattern = "plain" if kind == PARCEL or rng.random() < 0.7 else _any(KINDS[kind].patterns, rng)
    material = next((_FABRICS[word] for word in words if word in _FABRICS), None)
    material = material or ("canvas" if kind == PARCEL else _any(KINDS[kind].materials, rng))
    product = Product(
        kind, "", pattern, material, _any(tuple(HARDWARE), rng), int(rng.integers(3)), int(rng.integers(3))
    )
    return product, tint


def _any(values: tuple[str, ...], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]
