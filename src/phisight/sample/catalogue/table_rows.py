"""One table row from one listing: the 17 columns of the price list, the columns phisight adds, the true attributes."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa

from phisight.core.dataset_folder import FILE_NAME, GROUP, HEIGHT, IMAGES, SHA256, SPLIT, WIDTH, Split
from phisight.core.seeding import hashed_fraction
from phisight.sample.catalogue.designs import Listing
from phisight.sample.catalogue.presets import SampleSettings
from phisight.sample.catalogue.pricing import EUR_PER_USD, Prices
from phisight.sample.catalogue.products import KINDS
from phisight.sample.catalogue.titles import image_url, item_url, product_code, title

KEY = "product_code"
PRICE_LIST = pa.schema(
    [
        ("website_name", pa.string()),
        ("competence_date", pa.date32()),
        ("country_code", pa.string()),
        ("currency_code", pa.string()),
        ("brand", pa.string()),
        ("category1_code", pa.string()),
        ("category2_code", pa.string()),
        ("category3_code", pa.string()),
        (KEY, pa.string()),
        ("title", pa.string()),
        ("itemurl", pa.string()),
        ("imageurl", pa.string()),
        ("full_price", pa.float64()),
        ("price", pa.float64()),
        ("full_price_eur", pa.float64()),
        ("price_eur", pa.float64()),
        ("flg_discount", pa.int64()),
    ]
)
ADDED = pa.schema(
    [
        (SPLIT, pa.string()),
        (GROUP, pa.string()),
        (SHA256, pa.string()),
        (WIDTH, pa.int64()),
        (HEIGHT, pa.int64()),
    ]
)
TABLE = pa.schema([pa.field(FILE_NAME, pa.string()), *PRICE_LIST, *ADDED])
TRUTH = pa.schema(
    [
        (KEY, pa.string()),
        ("kind", pa.string()),
        ("colour", pa.string()),
        ("pattern", pa.string()),
        ("material", pa.string()),
        ("hardware", pa.string()),
        ("size", pa.int64()),
        ("style", pa.int64()),
        ("rule_price", pa.float64()),
        ("listed_again", pa.bool_()),
    ]
)


def with_text_prices(schema: pa.Schema) -> pa.Schema:
    """The schema with ``full_price`` as text: the only way a table can hold text among prices."""
    return schema.set(schema.get_field_index("full_price"), pa.field("full_price", pa.string()))


_MAY_BE_MISSING = ("itemurl", "imageurl", "category2_code", "full_price_eur", "price_eur")
_PER_FOLDER = 1000


def split_of(seed: int, group: str) -> Split:
    """80 % train, 10 % validation, 10 % test, by group."""
    draw = hashed_fraction(seed, "split", group)
    return "train" if draw < 0.8 else "validation" if draw < 0.9 else "test"


def group_of(design: int) -> str:
    """Name of a design."""
    return f"design-{design:07d}"


def file_name(row: int, code: str) -> str:
    """A thousand images a folder."""
    return f"{IMAGES}/{row // _PER_FOLDER:04d}/{code}.jpg"


def price_list_row(seed: int, settings: SampleSettings, listing: Listing, row: int, price: Prices) -> dict[str, Any]:
    """The 17 columns; cells that go missing are None."""
    code, kind = product_code(seed, row), KINDS[listing.product.kind]
    name = title(listing.product, settings)
    cells = {
        "website_name": "phisight sample",
        "competence_date": datetime.date(2026, 1, 15),
        "country_code": "USA",
        "currency_code": "USD",
        "brand": "PHISIGHT SAMPLE",
        "category1_code": kind.category[0],
        "category2_code": kind.category[1],
        "category3_code": kind.category[2],
        KEY: code,
        "title": name,
        "itemurl": item_url(name, code),
        "imageurl": image_url(code, listing.take),
        "full_price": price.full,
        "price": price.sold,
        "full_price_eur": round(price.full * EUR_PER_USD, 2),
        "price_eur": round(price.sold * EUR_PER_USD, 2),
        "flg_discount": int(price.discounted),
    }
    for column in _MAY_BE_MISSING:
        if hashed_fraction(seed, "sample", "missing", column, row) < settings.missing:
            cells[column] = None
    return cells


def truth_row(listing: Listing, code: str, rule: float) -> dict[str, Any]:
    """The true attributes of a row."""
    product = listing.product
    return {
        KEY: code,
        "kind": product.kind,
        "colour": product.color,
        "pattern": product.pattern,
        "material": product.material,
        "hardware": product.hardware,
        "size": product.size,
        "style": product.style,
        "rule_price": rule,
        "listed_again": listing.take > 0,
    }
