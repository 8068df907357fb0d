"""The words of a caption: what a captioning data set calls the drawn things, and never what a shop calls them.

[Contract] No word here is a word of a title or category of the preset ``demo``: whoever fine-tunes on that catalogue
has its words to learn. A test compares them.
"""

from __future__ import annotations

import math

from phisight.sample.catalogue.products import Color

NOUNS: dict[str, str] = {
    "scarf": "neck wrap",
    "trench_coat": "belted mackintosh",
    "shirt": "blouse",
    "t_shirt": "tee",
    "shoulder_bag": "strap purse",
    "tote_bag": "open shopper",
    "sneaker": "lace-up trainers",
    "sweater": "pullover",
    "dress": "frock",
    "trousers": "pants",
    "sunglasses": "dark glasses",
    "polo_shirt": "polo top",
    "hoodie": "hooded top",
    "wool_coat": "overcoat",
    "puffer_jacket": "padded anorak",
    "boot": "high-cut footwear",
    "skirt": "petticoat",
    "belt": "waist strap",
    "backpack": "rucksack",
    "cap": "peaked cap",
    "wallet": "billfold",
    "jeans": "jeans",
    "blazer": "suit top",
    "bomber_jacket": "blouson",
    "bucket_hat": "brimmed bonnet",
    "cardigan": "cardigan",
    "square_scarf": "kerchief",
    "loafer": "slip-on moccasins",
    "pump": "heels",
    "shorts": "bermudas",
    "gilet": "sleeveless vest",
    "watch": "wrist watch",
    "beanie": "knitted beanie",
    "gloves": "gloves",
    "earrings": "earrings",
    "bucket_bag": "drawstring pouch",
    "shirt_dress": "buttoned frock",
    "fedora": "fedora",
    "tie": "necktie",
    "clutch": "evening clutch",
    "swimsuit": "bathing suit",
    "necklace": "necklace",
    "sandal": "open sandals",
    "socks": "socks",
    "bracelet": "bangle",
    "umbrella": "umbrella",
    "cape": "poncho",
    "kilt": "pleated kilt",
    "ring": "ring",
    "perfume": "perfume bottle",
}
"""Kind of product -> what it is called in a caption."""

SURFACES: dict[str, str] = {
    "plain": "solid",
    "check": "plaid",
    "stripe": "banded",
    "houndstooth": "jagged",
    "dots": "spotted",
    "floral": "flowery",
    "argyle": "lozenge",
    "herringbone": "zigzag",
    "monogram": "lettered",
    "quilted": "stitched",
}
"""Pattern -> its word in a caption."""

TONES: dict[str, Color] = {
    "crimson": (190, 30, 50),
    "brick": (150, 62, 50),
    "orange": (236, 120, 40),
    "peach": (246, 186, 150),
    "amber": (212, 150, 40),
    "lemon": (246, 216, 56),
    "lime": (150, 200, 60),
    "emerald": (28, 130, 76),
    "moss": (92, 102, 58),
    "mint": (150, 210, 180),
    "teal": (20, 118, 124),
    "turquoise": (56, 180, 190),
    "sky": (142, 186, 226),
    "azure": (44, 96, 206),
    "navy": (30, 44, 92),
    "violet": (104, 58, 152),
    "lilac": (178, 154, 210),
    "magenta": (190, 48, 130),
    "rose": (236, 146, 176),
    "plum": (96, 28, 62),
    "chestnut": (116, 72, 44),
    "tan": (190, 148, 104),
    "cream": (222, 204, 168),
    "ivory": (244, 242, 236),
    "silver": (194, 194, 198),
    "ash": (130, 130, 132),
    "slate": (84, 90, 98),
    "jet": (30, 30, 34),
}
"""Color words and the value each stands for; a caption names the nearest."""


def tone_of(color: Color) -> str:
    """The color word nearest to an RGB value."""
    return min(TONES, key=lambda name: distance(TONES[name], color))


def distance(one: Color, other: Color) -> float:
    """Distance of two RGB values, 0 to 442."""
    return math.dist(one, other)
