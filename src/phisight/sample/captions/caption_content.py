"""What a captioned drawing shows, and its caption: a function of the seed and the row alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phisight.core.seeding import named_seed
from phisight.core.task import Task
from phisight.sample.captions.caption_vocabulary import NOUNS, SURFACES, TONES, distance, tone_of
from phisight.sample.catalogue.products import DEMO_COLORS, HARDWARE, MATERIALS, Color, Product

TASK = Task.model_validate(
    {
        "prompt": "Describe the object.",
        "answer": "{heading}, {name}: {material}; {first}, {second}, {third}.",
        "fields": {
            "heading": "text",
            "name": "category",
            "material": "category",
            "first": "integer",
            "second": "integer",
            "third": "integer",
        },
    }
)
HEADING_TASK = Task.model_validate(
    {
        "prompt": TASK.prompt,
        "answer": "{heading}.",
        "fields": {"heading": "text"},
    }
)
"""What pretraining ends with: the parts that can be seen best, so that each weighs more in the loss."""
HELD_BACK = 22.0
"""No drawing has a color nearer than this (RGB distance, of 442) to a color of the demo's catalogue, in any pattern."""

_KINDS, _PATTERNS, _TONES, _METALS, _MATERIALS = (
    tuple(table) for table in (NOUNS, SURFACES, TONES, HARDWARE, MATERIALS)
)
_NAMED, _SPREAD = 0.6, 16.0


@dataclass(frozen=True)
class Captioned:
    """One drawing before it is drawn."""

    product: Product
    color: Color
    busy: bool
    """Colored ground, floor, pose and crop; off: mild ones."""

    def values(self) -> dict[str, object]:
        """The fields of the task; the three numbers are the channels of the color, 0 to 99."""
        first, second, third = (round(channel * 99 / 255) for channel in self.color)
        noun, surface = NOUNS[self.product.kind], SURFACES[self.product.pattern]
        return {
            "heading": f"{tone_of(self.color)} {surface} {noun}".title(),
            "name": noun.upper(),
            "material": self.product.material,
            "first": first,
            "second": second,
            "third": third,
        }


def captioned(seed: int, row: int) -> Captioned:
    """The drawing of a row: every kind, pattern and material equally often, in any combination."""
    rng = np.random.default_rng(named_seed(seed, "caption", row))
    color = _color(rng)
    kind, pattern, material, metal = (
        names[int(rng.integers(len(names)))] for names in (_KINDS, _PATTERNS, _MATERIALS, _METALS)
    )
    size, style = int(rng.integers(3)), int(rng.integers(3))
    product = Product(kind, tone_of(color), pattern, material, metal, size, style)
    return Captioned(product, color, bool(rng.random() < 0.4))


def _color(rng: np.random.Generator) -> Color:
    """A color that is not held back: around a named one, or any."""
    while True:
        values = rng.uniform(0, 255, 3)
        if rng.random() < _NAMED:
            values = np.array(TONES[_TONES[int(rng.integers(len(_TONES)))]]) + _SPREAD * rng.normal(size=3)
        red, green, blue = (int(value) for value in np.clip(np.rint(values), 0, 255))
        if all(distance((red, green, blue), held) > HELD_BACK for held in DEMO_COLORS.values()):
            return red, green, blue
