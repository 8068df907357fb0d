"""Attributes to words: title, product code, addresses."""

from __future__ import annotations

import re

from phisight.core.seeding import named_seed
from phisight.sample.catalogue.presets import SampleSettings
from phisight.sample.catalogue.products import HARDWARE, KINDS, MATERIALS, Product

SHOP = "https://shop.example"
_CODES = 90_000_000
_STRIDE = 61_803_401  # shares no factor with _CODES: the codes of one sample never repeat


def title(product: Product, settings: SampleSettings) -> str:
    """The title: attributes in the order of ``settings.title``, nothing that the image does not show."""
    kind = KINDS[product.kind]
    words = {
        "size": kind.sizes[product.size] if kind.sizes and "size" in settings.attributes else "",
        "hardware": HARDWARE[product.hardware][0] if kind.hardware and "hardware" in settings.attributes else "",
        "pattern": settings.patterns[product.pattern][0],
        "material": MATERIALS[product.material][0] if "material" in settings.attributes else "",
        "noun": kind.noun,
        "colour": product.color,
        "in colour": f"in {product.color}",
    }
    return " ".join(words[part] for part in settings.title if words[part])


def product_code(seed: int, row: int) -> str:
    """Eight digits, the first from 1 to 9; different for every row below ninety million."""
    start = named_seed(seed, "sample", "codes") % _CODES
    return str(10_000_000 + (start + row * _STRIDE) % _CODES)


def slug(text: str) -> str:
    """Lower-case ASCII words joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))


def item_url(name: str, code: str) -> str:
    """Address of the product page (a reserved name that never resolves)."""
    return f"{SHOP}/us/{slug(name)}-p{code}"


def image_url(code: str, take: int) -> str:
    """Address of the image (a reserved name that never resolves)."""
    return f"{SHOP}/images/{code}_{take + 1}.jpg"
