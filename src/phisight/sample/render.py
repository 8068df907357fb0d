"""A product to image bytes: which cloth, which photograph."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from phisight.core.seeding import named_seed
from phisight.sample.catalogue.presets import SampleSettings
from phisight.sample.catalogue.products import HARDWARE, SIZE_STEPS, Color, Product
from phisight.sample.draw import sketch_of
from phisight.sample.draw.cloth import Cloth
from phisight.sample.draw.look import Look
from phisight.sample.draw.scene import Shot, photograph

_PAPER: tuple[Color, ...] = ((246, 245, 243), (236, 234, 230), (226, 228, 232), (240, 236, 226), (214, 216, 218))
_PAINT: tuple[Color, ...] = (
    (206, 216, 222), (224, 208, 196), (198, 206, 190), (216, 202, 214), (178, 188, 198), (228, 214, 178),
    (150, 158, 166), (236, 220, 216),
)  # fmt: skip
_KNITTED = frozenset({"sweater", "cardigan", "beanie", "socks"})
_FLAT = frozenset({"square_scarf", "wallet", "clutch", "belt", "sunglasses", "ring", "bracelet", "sneaker", "loafer"})


def draw_image(
    seed: int, settings: SampleSettings, product: Product, row: int, rgb: Color | None = None
) -> Image.Image:
    """The photograph of one row, RGB; ``rgb`` stands in for a color without a name."""
    rgb = rgb or settings.colors[product.color]
    look = Look(
        size=SIZE_STEPS[product.size],
        style=product.style,
        ink=_ink(rgb),
        thread=(236, 224, 196) if sum(rgb) < 420 else (150, 110, 70),
        lining=(168, 160, 150) if sum(rgb) < 200 else _scaled(rgb, 0.55),
        metal=HARDWARE[product.hardware][2],
    )
    return photograph(sketch_of(product.kind, look), _cloths(product, rgb), _shot(seed, settings, row))


def encode(image: Image.Image, settings: SampleSettings) -> bytes:
    """JPEG bytes."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=settings.quality)
    return stream.getvalue()


def _cloths(product: Product, rgb: Color) -> dict[str, Cloth]:
    contrast = (244, 240, 230) if sum(rgb) < 400 else (44, 46, 60)
    material = "knit" if product.kind in _KNITTED and product.material in ("wool", "cotton") else product.material
    main = Cloth(rgb, contrast, product.pattern, material)
    return {"main": main, "trim": Cloth(_scaled(rgb, 0.84), contrast, "plain", material)}


def _shot(seed: int, settings: SampleSettings, row: int) -> Shot:
    rng = np.random.default_rng(named_seed(seed, "sample", "shot", row))
    shorter = round(float(np.exp(rng.uniform(np.log(settings.smallest), np.log(settings.largest)))))
    long_limit = min(settings.elongation, settings.largest / shorter)
    longer = round(shorter * float(rng.uniform(1.0, max(1.0, long_limit))))
    width, height = (shorter, longer) if rng.random() < 0.7 else (longer, shorter)
    busy = settings.busy
    paper = (*_PAPER, *_PAINT) if busy else _PAPER
    close = busy and rng.random() < 0.08
    reach = 0.05 if busy else 0.025
    return Shot(
        width=width,
        height=height,
        fill=float(rng.uniform(1.05, 1.25))
        if close
        else float(rng.uniform(0.72, 0.92) if busy else rng.uniform(0.86, 0.94)),
        turn=float(rng.normal() * (6.0 if busy else 2.5)),
        lean=float(rng.normal() * (3.0 if busy else 1.0)),
        shift_x=float(rng.uniform(-reach, reach)),
        shift_y=float(rng.uniform(-reach, reach)),
        mirrored=bool(rng.random() < 0.5),
        background=paper[int(rng.integers(len(paper)))],
        floor=bool(busy and rng.random() < 0.35),
        light=float(rng.uniform(0.88, 1.03) if busy else rng.uniform(0.96, 1.02)),
        seed=named_seed(seed, "sample", "pixels", row),
    )


def _scaled(rgb: Color, factor: float) -> Color:
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in rgb)
    return red, green, blue


def _ink(rgb: Color) -> Color:
    return _scaled(rgb, 0.42) if sum(rgb) > 160 else (8, 8, 10)
