"""Designs: what is drawn at random, and from which seed.

A design is one product in its colors; its rows share kind, pattern, material and price and form one group. Every
design has a stream of its own, so any worker can make any design alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phisight.core.seeding import hashed_fraction, named_seed
from phisight.sample.catalogue.presets import SampleSettings
from phisight.sample.catalogue.products import HARDWARE, KINDS, Product


@dataclass(frozen=True)
class Listing:
    """One row before it is drawn."""

    design: int
    product: Product
    take: int
    """0 for the first photograph of the product; more for a product listed again."""


def design_sizes(seed: int, settings: SampleSettings, rows: int) -> Iterator[tuple[int, int]]:
    """(design, rows of that design) until ``rows`` are reached; costs one hash a design."""
    design = done = 0
    while done < rows:
        count = min(len(_takes(seed, settings, design)), rows - done)
        yield design, count
        done += count
        design += 1


def listings(seed: int, settings: SampleSettings, design: int) -> list[Listing]:
    """The rows of one design: each color once, some of them listed twice."""
    rng = np.random.default_rng(named_seed(seed, "sample", "design", design))
    kind_name = str(rng.choice(settings.kinds, p=_shares(settings)))
    kind = KINDS[kind_name]
    patterns = [pattern for pattern in kind.patterns if pattern in settings.patterns]
    varied = [pattern for pattern in patterns if pattern != "plain"]
    plain = not varied or ("plain" in patterns and rng.random() < settings.plain)
    pattern = "plain" if plain else _pick(rng, varied)
    material = _skewed(rng, kind.materials) if "material" in settings.attributes else kind.materials[0]
    with_hardware = kind.hardware and "hardware" in settings.attributes
    hardware = _skewed(rng, tuple(HARDWARE)) if with_hardware else next(iter(HARDWARE))
    size = int(rng.choice(3, p=(0.25, 0.5, 0.25))) if kind.sizes and "size" in settings.attributes else 1
    style = int(rng.integers(3))
    names = list(settings.colors)
    weights = 1.0 / (np.arange(len(names)) + 3.0) ** settings.skew
    takes = _takes(seed, settings, design)
    count = len([take for take in takes if take == 0])
    colors = rng.choice(len(names), size=count, replace=False, p=weights / weights.sum())
    firsts = [Product(kind_name, names[int(c)], pattern, material, hardware, size, style) for c in colors]
    repeats = [firsts[0]] * (len(takes) - count)
    return [Listing(design, product, take) for product, take in zip([*firsts, *repeats], takes, strict=True)]


def _takes(seed: int, settings: SampleSettings, design: int) -> list[int]:
    extra = settings.variants - 1.0
    share = extra / (1.0 + extra)
    draw = hashed_fraction(seed, "sample", "variants", design)
    count, mass = 1, share
    while draw < mass and count < min(8, len(settings.colors)):
        count, mass = count + 1, mass * share
    repeated = hashed_fraction(seed, "sample", "repeat", design) < settings.duplicates
    return [0] * count + [1] * repeated


@lru_cache(maxsize=8)
def _kind_shares(kinds: tuple[str, ...], skew: float) -> tuple[float, ...]:
    weights = np.array([KINDS[kind].weight for kind in kinds]) ** skew
    return tuple((weights / weights.sum()).tolist())


def _shares(settings: SampleSettings) -> tuple[float, ...]:
    return _kind_shares(settings.kinds, settings.skew)


def _pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


def _skewed(rng: np.random.Generator, values: Sequence[str]) -> str:
    weights = 0.6 ** np.arange(len(values))
    return values[int(rng.choice(len(values), p=weights / weights.sum()))]
