"""The price rule: a product of factors of what can be seen, then noise, then an ending that shops like.

    full price = ending(kind x pattern x material x hardware x size x exp(noise))

The noise belongs to the design: its colors cost the same. Rule and noise stand in ``sample.json``, so the error that
no model can go below is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from phisight.core.seeding import hashed_fraction, named_seed
from phisight.sample.catalogue.presets import SampleSettings
from phisight.sample.catalogue.products import HARDWARE, KINDS, MATERIALS, SIZE_FACTORS, Product

EUR_PER_USD = 0.92
DISCOUNTS = (0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Prices:
    """The price columns of one row, and what the rule alone says."""

    rule: float
    full: float
    sold: float

    @property
    def discounted(self) -> bool:
        """Sold below the full price."""
        return self.sold < self.full


def rule_price(product: Product, settings: SampleSettings) -> float:
    """The price before noise and ending, US dollars."""
    kind = KINDS[product.kind]
    price = kind.price * settings.patterns[product.pattern][1]
    if "material" in settings.attributes:
        price *= MATERIALS[product.material][1] / MATERIALS[kind.materials[0]][1]
    if "hardware" in settings.attributes and kind.hardware:
        price *= HARDWARE[product.hardware][1]
    if "size" in settings.attributes and kind.sizes:
        price *= SIZE_FACTORS[product.size]
    return price


def ending(price: float) -> float:
    """The nearest price that shops write: 5 steps below 200, 10 steps below 1,000, x40 and x90 above."""
    if price < 200:
        return max(5.0, 5.0 * round(price / 5))
    if price < 1000:
        return min(990.0, 10.0 * round(price / 10))
    return 50.0 * round((price + 10) / 50) - 10


def prices(seed: int, settings: SampleSettings, design: int, row: int, product: Product) -> Prices:
    """Prices of one row: the noise is the design's, the discount the row's."""
    rule = rule_price(product, settings)
    noise = np.random.default_rng(named_seed(seed, "sample", "noise", design)).normal()
    full = ending(rule * math.exp(settings.noise * float(noise)))
    draw = hashed_fraction(seed, "sample", "discount", row)
    if draw >= settings.discounted:
        return Prices(rule, full, full)
    step = DISCOUNTS[min(len(DISCOUNTS) - 1, int(len(DISCOUNTS) * draw / settings.discounted))]
    return Prices(rule, full, float(round(full * (1 - step))))


def describe(settings: SampleSettings) -> dict[str, object]:
    """The rule as numbers, for ``sample.json``."""
    kinds = {name: KINDS[name] for name in settings.kinds}
    factors: dict[str, object] = {
        "kind": {name: kind.price for name, kind in kinds.items()},
        "pattern": {name: factor for name, (_, factor) in settings.patterns.items()},
    }
    if "material" in settings.attributes:
        factors["material"] = {
            name: {material: MATERIALS[material][1] / MATERIALS[kind.materials[0]][1] for material in kind.materials}
            for name, kind in kinds.items()
        }
    if "hardware" in settings.attributes:
        factors["hardware"] = {name: factor for name, (_, factor, _) in HARDWARE.items()}
    if "size" in settings.attributes:
        factors["size"] = dict(zip(("small", "medium", "large"), SIZE_FACTORS, strict=True))
    return {
        "formula": "ending(kind * pattern * material * hardware * size * exp(noise * N(0, 1)))",
        "factors (1 where none is listed)": factors,
        "endings": "below 200: multiples of 5; below 1000: multiples of 10; above: multiples of 50 less 10",
        "noise_sigma": settings.noise,
        "eur_per_usd": EUR_PER_USD,
    }
