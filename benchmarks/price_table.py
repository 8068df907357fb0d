"""A stand-in for a real price list: 17 columns, made by a process that shares nothing with ``phisight.sample``.

There is no real price list in this repository. This one has other words, other price levels (heavy tails by brand
line and category), its own hierarchy with a long tail, seasonal discounts that depend on the category, and rules that
nothing states: price <= full_price, euro columns at one rate, a flag that tells a discount, a finer category that fixes
the coarser ones, codes and addresses in one format.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_TREE = {
    "WOMEN": {
        "APPAREL": ["Blouses", "Gowns", "Knits", "Outer Layers", "Denim Shop", "Lounge"],
        "SHOES": ["Heels", "Flats", "Ankle Boots", "Trainers"],
        "HANDBAGS": ["Crossbody", "Totes", "Evening Bags"],
        "EXTRAS": ["Shawls", "Eyewear", "Fine Jewels", "Small Leather"],
    },
    "MEN": {
        "TAILORING": ["Suits", "Formal Shirts", "Ties & Pocket Squares"],
        "CASUAL": ["Polos", "Knits M", "Chinos", "Field Jackets", "Tees"],
        "FOOTWEAR": ["Derbies", "Trainers M", "Loafers M"],
        "GOODS": ["Holdalls", "Belts", "Wallets"],
    },
    "CHILDREN": {
        "GIRL": ["Girl Dresses", "Girl Coats"],
        "BOY": ["Boy Sets", "Boy Coats"],
        "BABY": ["Baby Gifts", "Baby Sets"],
    },
    "HOME": {"LIVING": ["Throws", "Cushions"], "SCENT": ["Candles"]},
}  # fmt: skip
_LINES = ("Heritage", "Marlow", "Atelier", "Riviera", "Nocturne", "Studio", "Kensal", "Alba")
_STUFF = ("Merino", "Poplin", "Lambskin", "Jacquard", "Twill", "Mohair", "Calfskin", "Velvet", "Crepe", "Suede")
_STYLE = (
    "Relaxed",
    "Slim",
    "Oversized",
    "Embroidered",
    "Pleated",
    "Ribbed",
    "Reversible",
    "Classic",
    "Belted",
    "Quilted",
)


def price_table(rows: int, seed: int) -> pa.Table:
    """A table of ``rows`` x 17 drawn from ``seed``."""
    rng = np.random.default_rng([seed, 77])
    paths = [(a, b, c) for a, level in _TREE.items() for b, leaves in level.items() for c in leaves]
    weights = 1.0 / (rng.permutation(len(paths)) + 1.5) ** 1.1
    chosen = rng.choice(len(paths), size=rows, p=weights / weights.sum())
    level = rng.normal(6.0, 0.7, len(paths))
    width = rng.uniform(0.15, 0.6, len(paths))
    line = rng.integers(len(_LINES), size=rows)
    lift = np.array([0.0, -0.1, 0.55, 0.1, 0.35, -0.25, 0.0, 0.2])[line]
    raw = np.exp(level[chosen] + lift + width[chosen] * rng.standard_t(4, rows))
    full = np.clip(np.where(raw < 250, np.round(raw / 10) * 10 - 5, np.round(raw / 50) * 50 - 10), 25, 32_000)
    on_sale = rng.random(rows) < rng.beta(1.2, 3.5, len(paths))[chosen]
    cut = rng.choice([0.3, 0.4, 0.5, 0.6], p=[0.4, 0.3, 0.2, 0.1], size=rows)
    price = np.where(on_sale, np.round(full * (1 - cut)), full)
    rate = 0.9341
    codes = [f"{rng.integers(10**7, 10**8)}{rng.choice(list('ABX'))}" for _ in range(rows)]
    while len(set(codes)) < rows:
        codes = [f"{rng.integers(10**7, 10**8)}{rng.choice(list('ABX'))}" for _ in range(rows)]
    nouns = [paths[each][2].removesuffix(" M").rstrip("s") for each in chosen]
    titles = [
        " ".join(
            part
            for part in (
                _LINES[a],
                _STYLE[rng.integers(10)] if rng.random() < 0.6 else "",
                _STUFF[rng.integers(10)],
                noun,
            )
            if part
        )
        for a, noun in zip(line, nouns, strict=True)
    ]
    slugs = ["-".join("".join(c if c.isalnum() else " " for c in title.lower()).split()) for title in titles]
    return pa.table(
        {
            "website_name": ["Maison Example"] * rows,
            "competence_date": ["2025-11-03"] * rows,
            "country_code": ["USA"] * rows,
            "currency_code": ["USD"] * rows,
            "brand": ["MAISON"] * rows,
            "category1_code": [paths[each][0] for each in chosen],
            "category2_code": [f"{paths[each][0]} {paths[each][1]}" for each in chosen],
            "category3_code": [paths[each][2].upper() for each in chosen],
            "product_code": codes,
            "title": titles,
            "itemurl": [f"https://www.maison.test/us/{s}-p{code}" for s, code in zip(slugs, codes, strict=True)],
            "imageurl": [f"https://img.maison.test/{code[:3]}/{code}_{rng.integers(1, 5)}.jpg" for code in codes],
            "full_price": full,
            "price": price,
            "full_price_eur": np.round(full * rate, 2),
            "price_eur": np.round(price * rate, 2),
            "flg_discount": (price < full).astype(np.int64),
        }
    )
