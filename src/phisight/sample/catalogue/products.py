"""What a product can be: kinds, colors, patterns, materials, hardware, sizes. Plain tables; add a line to add one."""

from __future__ import annotations

from dataclasses import dataclass

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Kind:
    """One kind of product: how it is called, where it hangs, what it costs, what it can be made of."""

    noun: str
    category: tuple[str, str, str]
    price: float
    """Typical full price in US dollars, plain and in its first material."""
    weight: float
    """Relative frequency in the catalogue."""
    materials: tuple[str, ...]
    patterns: tuple[str, ...]
    sizes: tuple[str, ...] = ()
    """Names of visible sizes, smallest first; empty: the size stays out of the title."""
    hardware: bool = False
    """Metal parts large enough to be seen."""


_CLOTH = ("plain", "check", "stripe", "houndstooth", "dots", "floral", "argyle", "herringbone")
_KNIT = ("plain", "stripe", "argyle", "check", "dots")
_BAG = ("plain", "check", "monogram", "quilted", "stripe", "dots", "houndstooth")
_PLAIN = ("plain",)
_LENGTHS = ("Cropped", "", "Long")
_HEMS = ("Mini", "Midi", "Maxi")
_SIZES = ("Small", "Medium", "Large")

_OUTER = ("CLOTHING", "OUTERWEAR")
_TOPS = ("CLOTHING", "TOPS")
_KNITS = ("CLOTHING", "KNITWEAR")
_BOTTOMS = ("CLOTHING", "BOTTOMS")
_DRESS = ("CLOTHING", "DRESSES")
_SHOES = ("SHOES", "SHOES")
_BAGS = ("BAGS", "BAGS")
_GOODS = ("ACCESSORIES", "LEATHER GOODS")
_SOFT = ("ACCESSORIES", "SOFT ACCESSORIES")
_HATS = ("ACCESSORIES", "HATS")
_JEWELS = ("ACCESSORIES", "JEWELLERY")

KINDS: dict[str, Kind] = {
    "scarf": Kind("Scarf", (*_SOFT, "SCARVES"), 420, 10, ("wool", "cashmere"), _CLOTH, ("", "", "Long")),
    "trench_coat": Kind(
        "Trench Coat", (*_OUTER, "TRENCH COATS"), 2190, 9, ("gabardine", "leather"), _CLOTH, _LENGTHS, True
    ),
    "shirt": Kind("Shirt", (*_TOPS, "SHIRTS"), 480, 8, ("cotton", "silk", "denim"), _CLOTH),
    "t_shirt": Kind("T-shirt", (*_TOPS, "T-SHIRTS"), 310, 8, ("cotton", "silk"), (*_CLOTH, "monogram")),
    "shoulder_bag": Kind("Shoulder Bag", (*_BAGS, "SHOULDER BAGS"), 1590, 7, ("leather", "canvas"), _BAG, _SIZES, True),
    "tote_bag": Kind("Tote Bag", (*_BAGS, "TOTES"), 1290, 6.5, ("canvas", "leather", "nylon"), _BAG, _SIZES, True),
    "sneaker": Kind("Sneakers", (*_SHOES, "SNEAKERS"), 590, 6, ("canvas", "leather", "suede"), _BAG),
    "sweater": Kind("Sweater", (*_KNITS, "SWEATERS"), 690, 6, ("wool", "cashmere"), _KNIT),
    "dress": Kind("Dress", (*_DRESS, "DRESSES"), 1190, 5.5, ("cotton", "silk", "wool"), _CLOTH, _HEMS),
    "trousers": Kind("Trousers", (*_BOTTOMS, "TROUSERS"), 690, 5, ("wool", "cotton", "silk"), _CLOTH),
    "sunglasses": Kind(
        "Sunglasses", ("ACCESSORIES", "EYEWEAR", "SUNGLASSES"), 290, 4.5, ("acetate",), _PLAIN, (), True
    ),
    "polo_shirt": Kind("Polo Shirt", (*_TOPS, "POLO SHIRTS"), 390, 4.5, ("cotton", "silk"), _CLOTH),
    "hoodie": Kind("Hoodie", (*_TOPS, "SWEATSHIRTS"), 750, 4.2, ("cotton", "cashmere"), _CLOTH),
    "wool_coat": Kind("Coat", (*_OUTER, "COATS"), 2390, 4, ("wool", "cashmere", "tweed"), _CLOTH, _LENGTHS),
    "puffer_jacket": Kind("Puffer Jacket", (*_OUTER, "PUFFERS"), 1390, 4, ("nylon", "satin"), _CLOTH, _LENGTHS, True),
    "boot": Kind(
        "Boots", (*_SHOES, "BOOTS"), 990, 3.8, ("leather", "suede", "patent leather"), _BAG, ("Ankle", "", "Tall")
    ),
    "skirt": Kind("Skirt", (*_BOTTOMS, "SKIRTS"), 750, 3.6, ("wool", "cotton", "silk"), _CLOTH, _HEMS),
    "belt": Kind(
        "Belt",
        (*_GOODS, "BELTS"),
        430,
        3.6,
        ("leather", "patent leather"),
        ("plain", "check", "monogram", "stripe"),
        (),
        True,
    ),
    "backpack": Kind("Backpack", (*_BAGS, "BACKPACKS"), 1490, 3.2, ("nylon", "leather", "canvas"), _BAG, _SIZES, True),
    "cap": Kind("Cap", (*_HATS, "CAPS"), 360, 3.2, ("cotton", "denim", "nylon"), _CLOTH),
    "wallet": Kind("Wallet", (*_GOODS, "WALLETS"), 470, 3, ("leather", "canvas"), _BAG, (), True),
    "jeans": Kind("Jeans", (*_BOTTOMS, "JEANS"), 590, 3, ("denim",), _PLAIN),
    "blazer": Kind("Blazer", ("CLOTHING", "TAILORING", "BLAZERS"), 1790, 2.8, ("wool", "tweed", "linen"), _CLOTH),
    "bomber_jacket": Kind(
        "Bomber Jacket", (*_OUTER, "JACKETS"), 1290, 2.8, ("nylon", "leather", "satin"), _CLOTH, (), True
    ),
    "bucket_hat": Kind("Bucket Hat", (*_HATS, "BUCKET HATS"), 410, 2.6, ("cotton", "nylon", "denim"), _CLOTH),
    "cardigan": Kind("Cardigan", (*_KNITS, "CARDIGANS"), 890, 2.5, ("wool", "cashmere"), _KNIT),
    "square_scarf": Kind("Square Scarf", (*_SOFT, "SILKS"), 390, 2.4, ("silk", "cotton"), _CLOTH),
    "loafer": Kind("Loafers", (*_SHOES, "LOAFERS"), 890, 2.3, ("leather", "suede", "patent leather"), _PLAIN, (), True),
    "pump": Kind(
        "Pumps",
        (*_SHOES, "PUMPS"),
        790,
        2.2,
        ("leather", "satin", "patent leather"),
        _BAG,
        ("Kitten-heel", "", "High-heel"),
    ),
    "shorts": Kind("Shorts", (*_BOTTOMS, "SHORTS"), 490, 2.2, ("cotton", "linen", "silk"), _CLOTH),
    "gilet": Kind("Gilet", (*_OUTER, "GILETS"), 950, 2, ("nylon", "wool"), _CLOTH, (), True),
    "watch": Kind(
        "Watch", (*_JEWELS, "WATCHES"), 650, 2, ("leather", "canvas"), ("plain", "check", "stripe"), _SIZES, True
    ),
    "beanie": Kind("Beanie", (*_HATS, "BEANIES"), 320, 2, ("wool", "cashmere"), _KNIT),
    "gloves": Kind(
        "Gloves", (*_SOFT, "GLOVES"), 380, 1.8, ("leather", "wool", "cashmere"), ("plain", "check", "stripe", "argyle")
    ),
    "earrings": Kind("Drop Earrings", (*_JEWELS, "EARRINGS"), 490, 1.8, ("enamel",), _PLAIN, (), True),
    "bucket_bag": Kind(
        "Bucket Bag", (*_BAGS, "BUCKET BAGS"), 1390, 1.7, ("leather", "canvas", "suede"), _BAG, _SIZES, True
    ),
    "shirt_dress": Kind(
        "Shirt Dress", (*_DRESS, "SHIRT DRESSES"), 990, 1.6, ("cotton", "silk", "denim"), _CLOTH, (), True
    ),
    "fedora": Kind("Fedora", (*_HATS, "FEDORAS"), 450, 1.4, ("wool", "straw"), _CLOTH),
    "tie": Kind("Tie", (*_SOFT, "TIES"), 230, 1.4, ("silk", "wool"), _CLOTH),
    "clutch": Kind("Clutch", (*_BAGS, "CLUTCHES"), 850, 1.3, ("leather", "satin", "raffia"), _BAG, (), True),
    "swimsuit": Kind("Swimsuit", ("CLOTHING", "SWIMWEAR", "SWIMSUITS"), 420, 1.2, ("nylon",), _CLOTH),
    "necklace": Kind("Pendant Necklace", (*_JEWELS, "NECKLACES"), 550, 1.2, ("enamel",), _PLAIN, (), True),
    "sandal": Kind("Sandals", (*_SHOES, "SANDALS"), 650, 1.1, ("leather", "canvas", "raffia"), _BAG, (), True),
    "socks": Kind("Socks", (*_SOFT, "SOCKS"), 130, 1, ("cotton", "wool"), _KNIT, ("Ankle", "", "Knee-high")),
    "bracelet": Kind("Bracelet", (*_JEWELS, "BRACELETS"), 460, 0.9, ("enamel",), ("plain", "check"), (), True),
    "umbrella": Kind("Umbrella", ("ACCESSORIES", "UMBRELLAS", "UMBRELLAS"), 370, 0.8, ("nylon",), _CLOTH),
    "cape": Kind("Cape", (*_OUTER, "CAPES"), 1890, 0.8, ("wool", "cashmere"), _CLOTH),
    "kilt": Kind(
        "Kilt", (*_BOTTOMS, "KILTS"), 890, 0.6, ("wool",), ("check", "plain", "houndstooth", "herringbone"), _HEMS
    ),
    "ring": Kind("Ring", (*_JEWELS, "RINGS"), 390, 0.6, ("crystal",), _PLAIN, (), True),
    "perfume": Kind("Eau de Parfum", ("BEAUTY", "FRAGRANCE", "PERFUMES"), 150, 0.5, ("glass",), _PLAIN, _SIZES, True),
}

DEMO_KINDS = (
    "scarf", "trench_coat", "shirt", "t_shirt", "tote_bag", "sneaker", "dress", "trousers",
    "puffer_jacket", "boot", "skirt", "backpack", "bucket_hat", "shorts", "sweater",
)  # fmt: skip

COLORS: dict[str, Color] = {
    "Black": (34, 34, 38),
    "Archive Beige": (206, 180, 142),
    "White": (240, 238, 232),
    "Navy": (34, 46, 86),
    "Camel": (184, 132, 80),
    "Charcoal Grey": (84, 86, 92),
    "Bright Red": (196, 36, 44),
    "Birch Brown": (108, 72, 50),
    "Forest Green": (30, 84, 58),
    "Pale Blue": (148, 184, 218),
    "Dusty Pink": (220, 158, 166),
    "Burgundy": (104, 26, 44),
    "Cobalt Blue": (34, 74, 178),
    "Mustard Yellow": (220, 168, 46),
    "Olive": (104, 106, 58),
    "Stone Grey": (168, 168, 164),
    "Coral Orange": (234, 110, 66),
    "Lilac": (178, 156, 210),
    "Mint Green": (150, 208, 178),
    "Deep Violet": (86, 46, 116),
}

DEMO_COLORS: dict[str, Color] = {
    "Red": (200, 30, 40),
    "Blue": (34, 84, 196),
    "Green": (26, 128, 66),
    "Yellow": (244, 200, 36),
    "Pink": (242, 142, 176),
    "Brown": (122, 76, 44),
    "Black": (30, 30, 34),
    "White": (246, 245, 240),
}

PATTERNS: dict[str, tuple[str, float]] = {
    "plain": ("", 1.0),
    "check": ("Check", 1.22),
    "stripe": ("Striped", 1.10),
    "houndstooth": ("Houndstooth", 1.30),
    "dots": ("Polka Dot", 1.14),
    "floral": ("Floral", 1.42),
    "argyle": ("Argyle", 1.36),
    "herringbone": ("Herringbone", 1.18),
    "monogram": ("Monogram", 1.50),
    "quilted": ("Quilted", 1.28),
}
"""Pattern -> its word in the title, and what it multiplies the price by."""

DEMO_PATTERNS: dict[str, tuple[str, float]] = {
    "plain": ("", 1.0),
    "stripe": ("Striped", 1.25),
    "check": ("Check", 1.6),
    "dots": ("Dotted", 2.0),
    "argyle": ("Diamond", 2.5),
}

MATERIALS: dict[str, tuple[str, float]] = {
    "cotton": ("Cotton", 1.0),
    "gabardine": ("Cotton Gabardine", 1.0),
    "wool": ("Wool", 1.05),
    "tweed": ("Tweed", 1.15),
    "cashmere": ("Cashmere", 1.55),
    "silk": ("Silk", 1.35),
    "satin": ("Satin", 1.25),
    "linen": ("Linen", 0.95),
    "denim": ("Denim", 0.9),
    "nylon": ("Nylon", 0.9),
    "canvas": ("Canvas", 0.85),
    "leather": ("Leather", 1.45),
    "patent leather": ("Patent Leather", 1.6),
    "suede": ("Suede", 1.3),
    "straw": ("Straw", 0.8),
    "raffia": ("Raffia", 0.9),
    "acetate": ("", 1.0),
    "enamel": ("Enamel", 1.0),
    "crystal": ("Crystal", 1.0),
    "glass": ("", 1.0),
}

HARDWARE: dict[str, tuple[str, float, Color]] = {
    "silver": ("", 1.0, (198, 202, 208)),
    "gold": ("Gold-tone", 1.15, (212, 172, 76)),
    "black": ("Black-tone", 1.06, (48, 48, 52)),
}
"""Metal -> its word, what it multiplies the price by, its color."""

SIZE_STEPS = (0.0, 0.5, 1.0)
SIZE_FACTORS = (0.88, 1.0, 1.18)


@dataclass(frozen=True)
class Product:
    """The true attributes of one row; every one can be seen in its image."""

    kind: str
    color: str
    pattern: str
    material: str
    hardware: str
    size: int
    style: int
