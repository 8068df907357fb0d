"""What a sample is like: every setting with its sentence, and the presets."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phisight.core.errors import SampleError, some
from phisight.sample.catalogue.products import COLORS, DEMO_COLORS, DEMO_KINDS, DEMO_PATTERNS, KINDS, PATTERNS


class SampleSettings(BaseModel):
    """The look and the statistics of a sample catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = Field(default="fashion", description="Name of the preset these settings started from.")
    kinds: tuple[str, ...] = Field(default=tuple(KINDS), description="Kinds of product; see products.py.")
    colors: dict[str, tuple[int, int, int]] = Field(default=COLORS, description="Color names and their RGB values.")
    patterns: dict[str, tuple[str, float]] = Field(
        default=PATTERNS, description="Patterns: word in the title, factor in the price."
    )
    title: tuple[str, ...] = Field(
        default=("size", "hardware", "pattern", "material", "noun", "in colour"),
        description="Attributes in the order in which the title names them.",
    )
    attributes: tuple[str, ...] = Field(
        default=("material", "hardware", "size"),
        description="Attributes that vary and count in the price, beside kind, color and pattern.",
    )
    plain: float = Field(default=0.4, ge=0, le=1, description="Share of plain cloth where a kind allows patterns.")
    skew: float = Field(default=1.0, ge=0, description="0: all kinds equally frequent; 1: as skewed as a real shop.")
    smallest: int = Field(default=224, ge=32, description="Shortest side of an image, pixels.")
    largest: int = Field(default=1344, le=4096, description="Longest side of an image, pixels.")
    elongation: float = Field(default=2.0, ge=1, le=4, description="Longest side over shortest side, at most.")
    busy: bool = Field(default=True, description="Colored backgrounds, floors, poses and crops; off: mild ones.")
    quality: int = Field(default=90, ge=30, le=100, description="JPEG quality.")
    noise: float = Field(
        default=0.08, ge=0, le=1, description="Standard deviation of the log-normal noise on full prices."
    )
    discounted: float = Field(default=0.22, ge=0, le=1, description="Share of rows with a discount.")
    missing: float = Field(
        default=0.01, ge=0, le=0.9, description="Share of empty cells in the columns that no task needs."
    )
    duplicates: float = Field(
        default=0.04, ge=0, le=0.5, description="Share of designs listed again with another photograph."
    )
    variants: float = Field(default=1.9, ge=1, le=6, description="Mean number of colors a design comes in.")

    @model_validator(mode="after")
    def _known(self) -> SampleSettings:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise ValueError(f"kinds {some(unknown)!r} are not drawn; known kinds: {some(KINDS, 60)}")
        if not self.colors or "plain" not in self.patterns:
            raise ValueError("a sample needs at least one color and the pattern 'plain'")
        if self.smallest > self.largest:
            raise ValueError(f"smallest side {self.smallest} is larger than largest side {self.largest}")
        return self


PRESETS: dict[str, SampleSettings] = {
    "fashion": SampleSettings(),
    "demo": SampleSettings(
        preset="demo",
        kinds=DEMO_KINDS,
        colors=DEMO_COLORS,
        patterns=DEMO_PATTERNS,
        title=("colour", "pattern", "noun"),
        attributes=(),
        plain=0.25,
        skew=0.35,
        smallest=144,
        largest=208,
        elongation=1.2,
        busy=False,
        noise=0.10,
        duplicates=0.02,
    ),
}


def preset(name: str, **changes: Any) -> SampleSettings:
    """A preset, with changes; SampleError for an unknown name or a value that cannot be used."""
    if name not in PRESETS:
        raise SampleError(f"no preset {name!r}; presets: {some(PRESETS)}")
    try:
        return SampleSettings.model_validate({**PRESETS[name].model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise SampleError(f"{where}: {first['msg']}; got {some([changes.get(where, '')])}") from None
