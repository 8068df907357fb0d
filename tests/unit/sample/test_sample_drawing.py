"""The drawings: every kind draws, what the table says is what the image shows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from phisight.sample.catalogue.presets import PRESETS, preset
from phisight.sample.catalogue.products import (
    COLORS,
    DEMO_COLORS,
    DEMO_KINDS,
    HARDWARE,
    KINDS,
    MATERIALS,
    PATTERNS,
    Product,
)
from phisight.sample.draw import DRAWINGS, sketch_of
from phisight.sample.draw.cloth import Cloth
from phisight.sample.draw.look import Look
from phisight.sample.draw.outline import ellipse, mirrored, outline
from phisight.sample.draw.scene import Shot, photograph
from phisight.sample.render import draw_image

SHOT = Shot(96, 96)


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def _plain(color: tuple[int, int, int]) -> dict[str, Cloth]:
    return {"main": Cloth(color, (250, 250, 250)), "trim": Cloth(color, (250, 250, 250))}


def test_tables_fit_the_drawings() -> None:
    assert len(KINDS) >= 20
    assert set(KINDS) <= set(DRAWINGS)
    assert set(DEMO_KINDS) <= set(KINDS)
    for kind in KINDS.values():
        assert set(kind.materials) <= set(MATERIALS)
        assert set(kind.patterns) <= set(PATTERNS)
        assert len(kind.sizes) in (0, 3)


@pytest.mark.parametrize("kind", sorted(DRAWINGS))
@pytest.mark.parametrize("style", [0, 1, 2])
def test_every_kind_fills_the_image_without_leaving_it(kind: str, style: int) -> None:
    for size in (0.0, 1.0):
        empty = _pixels(photograph(sketch_of("ring", Look()), _plain((236, 234, 230)), Shot(96, 96, fill=0.001)))
        drawn = _pixels(photograph(sketch_of(kind, Look(size=size, style=style)), _plain((200, 30, 40)), SHOT))
        changed = np.abs(drawn - empty).max(axis=2) > 60
        assert 0.04 < changed.mean() < 0.85
        assert not changed[:2].any()
        assert not changed[:, :2].any()


@pytest.mark.parametrize("kind", DEMO_KINDS)
def test_color_is_seen(kind: str) -> None:
    red, blue = (
        _pixels(photograph(sketch_of(kind, Look()), _plain(DEMO_COLORS[name]), SHOT)) for name in ("Red", "Blue")
    )
    assert (np.abs(red - blue).max(axis=2) > 80).mean() > 0.12


@pytest.mark.parametrize("pattern", [name for name in PATTERNS if name != "plain"])
def test_every_pattern_is_seen(pattern: str) -> None:
    def shirt(name: str) -> np.ndarray:
        cloths = _plain((40, 80, 160)) | {"main": Cloth((40, 80, 160), (244, 240, 230), name)}
        return _pixels(photograph(sketch_of("t_shirt", Look()), cloths, SHOT))

    assert np.abs(shirt(pattern) - shirt("plain")).mean() > 2.0


@pytest.mark.parametrize("material", ["knit", "denim", "wool", "leather", "silk", "canvas", "straw", "nylon"])
def test_every_material_is_seen(material: str) -> None:
    def coat(name: str) -> np.ndarray:
        cloths = {part: Cloth((150, 110, 80), (0, 0, 0), "plain", name) for part in ("main", "trim")}
        return _pixels(photograph(sketch_of("t_shirt", Look()), cloths, Shot(256, 256)))

    assert np.abs(coat(material) - coat("cotton")).max(axis=2).mean() > 0.8


def test_size_and_hardware_are_seen() -> None:
    short, long = (
        _pixels(photograph(sketch_of("dress", Look(size=size)), _plain((200, 30, 40)), SHOT)) for size in (0.0, 1.0)
    )
    assert np.abs(short - long).mean() > 3
    gold, silver = (
        _pixels(photograph(sketch_of("watch", Look(metal=HARDWARE[name][2])), _plain((20, 20, 20)), SHOT))
        for name in ("gold", "silver")
    )
    assert np.abs(gold - silver).max(axis=2).mean() > 2


def test_edges_are_anti_aliased() -> None:
    image = photograph(
        sketch_of("tote_bag", Look()), _plain((0, 0, 0)), Shot(200, 200, turn=7, background=(255, 255, 255))
    )
    gray = np.asarray(image.convert("L"), dtype=np.int64)
    step = np.abs(np.diff(gray, axis=1))
    assert ((step > 20) & (step < 150)).sum() > (step >= 200).sum()


def test_no_two_color_names_look_alike() -> None:
    for table in (COLORS, DEMO_COLORS):
        values = np.array(list(table.values()), dtype=np.float64)
        gaps = np.abs(values[:, None] - values[None]).sum(axis=2) + 999 * np.eye(len(values))
        assert gaps.min() > 30
    demo = np.array(list(DEMO_COLORS.values()), dtype=np.float64)
    assert (np.linalg.norm(demo[:, None] - demo[None], axis=2) + 999 * np.eye(len(demo))).min() > 70


def test_images_come_in_any_shape_and_size() -> None:
    settings = PRESETS["fashion"]
    product = Product("scarf", "Navy", "check", "wool", "silver", 1, 0)
    images = [draw_image(0, preset("fashion", smallest=64, largest=384), product, row) for row in range(60)]
    assert all(min(image.size) >= 64 and max(image.size) <= 384 for image in images)
    assert Counter(image.width > image.height for image in images).keys() == {True, False}
    assert max(max(image.size) / min(image.size) for image in images) > 1.5
    assert (settings.smallest, settings.largest) == (224, 1344)


def test_outlines() -> None:
    assert outline("M0 0 L4 0 Q8 0 8 4")[-1].tolist() == [8, 4]
    shape = mirrored("M0 0 L5 5 L0 10")
    assert np.allclose(shape[:, 0].sum(), 0)
    assert np.allclose(ellipse(1, 2, 3, 4)[0], ellipse(1, 2, 3, 4)[-1])
