"""Foreign images in the style of product drawings: things that nobody wears, signs, and products cut to pieces.

One object on plain ground is what products look like; without these a model takes any such image for one. Nothing here
shows bars, cells, windows or lines of text, which evaluation keeps for itself (``HELD_OUT``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from phisight.sample.catalogue.designs import listings
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw.cloth import Cloth
from phisight.sample.draw.outline import Points, arch, ellipse, flip, mirrored, outline, rounded
from phisight.sample.draw.scene import Shot, photograph
from phisight.sample.draw.sketch import Sketch
from phisight.sample.foreign.surfaces import color
from phisight.sample.render import draw_image

_PATTERNS = ("plain", "plain", "plain", "dots", "floral", "argyle")
_MATERIALS = ("cotton", "leather", "wool")
_INK = (40, 38, 40)


def thing(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A house, tree, car, fish, mug, chair, lamp or fruit, photographed as products are."""
    sketch = Sketch()
    _THINGS[int(rng.integers(len(_THINGS)))](sketch, rng)
    main, contrast = color(rng), color(rng)
    pattern, material = str(rng.choice(_PATTERNS)), str(rng.choice(_MATERIALS))
    cloths = {"main": Cloth(main, contrast, pattern, material), "trim": Cloth(contrast, main, "plain", material)}
    return photograph(sketch, cloths, _shot(rng, width, height))


def sign(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A flat sign on plain ground: a disc, triangle, lozenge or shield with an arrow, cross, star or heart on it."""
    sketch, plate, mark = Sketch(), color(rng), color(rng)
    plates = (
        ellipse(0, 50, 45, 45),
        mirrored("M0 6 L48 92 L0 92"),
        mirrored("M0 2 L48 50 L0 98"),
        mirrored("M0 4 L42 4 L42 50 Q38 84 0 98"),
    )
    marks = (
        mirrored("M0 26 L20 48 L8 48 L8 76 L0 76"),
        mirrored("M0 30 L6 30 L6 48 L22 48 L22 60 L6 60 L6 76 L0 76"),
        _star(int(rng.integers(4, 8))),
        mirrored("M0 42 Q10 24 22 36 Q28 52 0 78"),
    )
    sketch.fill(plates[int(rng.integers(len(plates)))], plate, light="flat", edge=float(rng.uniform(0, 1)))
    turned = marks[int(rng.integers(len(marks)))]
    sketch.fill(turned, mark, light="flat", edge=0, solid=False)
    return photograph(sketch, {}, _shot(rng, width, height))


def jumbled(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """The pieces of a product's photograph in another order, each turned."""
    photo, across = _photo(rng).resize((240, 240)), int(rng.integers(3, 7))
    side = 240 // across
    boxes = [(x * side, y * side, (x + 1) * side, (y + 1) * side) for y in range(across) for x in range(across)]
    image = Image.new("RGB", (across * side, across * side))
    for box, place in zip(boxes, rng.permutation(len(boxes)).tolist(), strict=True):
        turned = photo.crop(boxes[place]).rotate(90 * int(rng.integers(4)))
        image.paste(turned, box[:2])
    return image.resize((width, height), Image.Resampling.BICUBIC)


def scattered(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Small pebbles, leaves or sweets strewn over a plain ground."""
    image = Image.new("RGB", (width, height), color(rng, 150, 256))
    pen, reach = ImageDraw.Draw(image), min(width, height) * float(rng.uniform(0.02, 0.09))
    fills = [color(rng) for _ in range(int(rng.integers(1, 5)))]
    for _ in range(int(rng.integers(12, 90))):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, np.pi)
        leaf = ellipse(0, 0, reach * rng.uniform(0.6, 1.4), reach * rng.uniform(0.3, 1.0), 14)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        pen.polygon([(a + x, b + y) for a, b in (leaf @ turn).tolist()], fill=fills[int(rng.integers(len(fills)))])
    return image


def _photo(rng: np.random.Generator) -> Image.Image:
    seed, settings = int(rng.integers(1 << 30)), preset("demo")
    return draw_image(seed, settings, listings(seed, settings, 0)[0].product, 0)


def _shot(rng: np.random.Generator, width: int, height: int) -> Shot:
    pale = int(rng.integers(205, 250))
    plain = rng.random() < 0.7
    return Shot(
        width=width,
        height=height,
        fill=float(rng.uniform(0.6, 0.95)),
        turn=float(rng.normal() * 6),
        shift_x=float(rng.uniform(-0.04, 0.04)),
        shift_y=float(rng.uniform(-0.04, 0.04)),
        mirrored=bool(rng.random() < 0.5),
        background=(pale, pale - 2, pale - 5) if plain else color(rng, 150, 245),
        floor=bool(rng.random() < 0.3),
        light=float(rng.uniform(0.9, 1.02)),
        seed=int(rng.integers(1 << 30)),
    )


def _star(points: int) -> Points:
    angles = np.linspace(0, 2 * np.pi, 2 * points + 1) - np.pi / 2
    reach = np.where(np.arange(2 * points + 1) % 2, 11.0, 27.0)
    return np.stack([reach * np.cos(angles), 52 + reach * np.sin(angles)], axis=1)


def _house(s: Sketch, rng: np.random.Generator) -> None:
    wall, eaves = float(rng.uniform(24, 40)), float(rng.uniform(36, 56))
    s.fill(rounded(-wall, eaves, wall, 96, 1), light="flat")
    s.fill(mirrored(f"M0 {eaves - rng.uniform(18, 32)} L{wall + 7} {eaves} L0 {eaves}"), "trim", light="flat")
    s.fill(rounded(-6, 72, 6, 96, 2), color(rng, 40, 160), light="flat", solid=False)
    for x in (-0.62 * wall, 0.62 * wall):
        s.fill(rounded(x - 5, eaves + 10, x + 5, eaves + 22, 1), (190, 214, 230), light="flat", solid=False)


def _tree(s: Sketch, rng: np.random.Generator) -> None:
    s.fill(mirrored("M0 50 L4 50 L7 98 L0 98"), (112, 78, 52), light="round")
    leaves = (int(rng.integers(40, 130)), int(rng.integers(110, 180)), int(rng.integers(40, 90)))
    if rng.random() < 0.5:
        for low in (72, 54, 36):
            s.fill(mirrored(f"M0 {low - 32} L{10 + low * 0.38} {low} L0 {low}"), leaves)
        return
    for _ in range(9):
        x, y = rng.normal() * 14, 34 + rng.normal() * 11
        s.fill(ellipse(x, y, rng.uniform(10, 19), rng.uniform(9, 16)), leaves, light="ball", edge=0.2)


def _car(s: Sketch, rng: np.random.Generator) -> None:
    roof = float(rng.uniform(24, 36))
    s.fill(outline(f"M-26 54 Q-18 {roof} -6 {roof} L14 {roof} Q26 {roof + 4} 32 54"), "trim", light="flat")
    s.fill(outline("M-48 74 Q-48 56 -34 54 L34 54 Q48 58 48 74 L46 80 L-46 80"))
    s.fill(outline(f"M-18 52 Q-12 {roof + 5} 0 {roof + 5} L0 52"), (196, 216, 228), light="flat", solid=False)
    for x in (-28, 28):
        s.fill(ellipse(x, 80, 11, 11), _INK, light="flat")
        s.fill(ellipse(x, 80, 5, 5), (190, 192, 196), light="flat", solid=False)


def _fish(s: Sketch, rng: np.random.Generator) -> None:
    high = float(rng.uniform(13, 26))
    s.fill(outline(f"M24 50 L48 {50 - high} Q40 50 48 {50 + high}"), "trim", light="flat")
    s.fill(outline(f"M-6 {52 - high} Q8 {34 - high} 16 {54 - high}"), "trim", light="flat")
    s.fill(outline(f"M-46 50 Q-24 {48 - 1.5 * high} 30 50 Q-24 {52 + 1.5 * high} -46 50"))
    s.fill(ellipse(-31, 46, 2.6, 2.6), _INK, light="flat", edge=0, solid=False)


def _mug(s: Sketch, rng: np.random.Generator) -> None:
    half, top = float(rng.uniform(20, 30)), float(rng.uniform(16, 40))
    s.line(arch(f"M0 {top + 12} Q18 {top + 10} 18 {top + 26}") + np.array([half, 6.0]), color(rng), 5, solid=True)
    s.fill(mirrored(f"M0 {top} L{half} {top} L{half * rng.uniform(0.7, 1)} 92 Q{half * 0.6} 97 0 97"))
    s.fill(ellipse(0, top, half, 5), "trim", light="flat", solid=False)


def _chair(s: Sketch, rng: np.random.Generator) -> None:
    half, seat = float(rng.uniform(20, 30)), float(rng.uniform(50, 62))
    for x in (-half, half):
        s.fill(rounded(x - 2.5, seat, x + 2.5, 98, 1), (126, 88, 58), light="flat")
    s.fill(rounded(-half, 6, half, seat - 4, float(rng.uniform(3, 20))))
    s.fill(rounded(-half - 6, seat - 6, half + 6, seat + 6, 4), "trim")


def _lamp(s: Sketch, rng: np.random.Generator) -> None:
    low, half = float(rng.uniform(34, 50)), float(rng.uniform(24, 40))
    s.fill(rounded(-1.8, low, 1.8, 94, 1), (150, 140, 120), light="flat")
    s.fill(mirrored("M0 90 Q18 90 20 97 L0 97"), "trim")
    s.fill(mirrored(f"M0 8 L{half * rng.uniform(0.3, 0.8)} 8 L{half} {low} L0 {low}"))


def _fruit(s: Sketch, rng: np.random.Generator) -> None:
    neck = float(rng.uniform(8, 30))
    right = outline(f"M0 24 Q{neck} 16 {neck + 4} 38 Q44 60 30 86 Q16 98 0 94")
    s.fill(np.concatenate([right, flip(right)[::-1]]), light="ball")
    s.line(outline("M0 26 Q2 14 8 8"), (96, 70, 44), 2.4, solid=True)
    s.fill(outline("M3 18 Q16 2 28 12 Q16 24 3 18"), (92, 142, 66), light="flat")


_THINGS: tuple[Callable[[Sketch, Any], None], ...] = (_house, _tree, _car, _fish, _mug, _chair, _lamp, _fruit)
