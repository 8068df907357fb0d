"""Which columns hold images: the one that is meant, and those with further images of the same product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from phisight.data.build.plan.profile import ColumnProfile

_IMAGE_NAMES = (
    "image", "image_url", "imageurl", "image_link", "image_path", "image_src", "img", "img_url", "photo", "photo_url",
    "file_name", "filename", "path", "url", "images", "image_urls", "photos", "file_names", "main_image", "base_image",
    "product_image",
)  # fmt: skip
_CLEAR, _WEAK = 0.5, 0.05
_NUMBERED = re.compile(r"^(.*?\D)?[ _.-]*0*(\d{1,3})$")
_FURTHER = ("additional", "further", "other", "gallery", "more", "extra", "alternate")


def first_named(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The column that has the first of the wanted names: case, spaces, points and dashes aside."""
    known = {_plain(name): name for name in reversed(list(names))}
    return next((known[name] for name in wanted if name in known), None)


def guess_image(profiles: Mapping[str, ColumnProfile]) -> str | None:
    """The column whose values are images; of several, one with a usual name, else the first."""
    clear = [name for name, column in profiles.items() if column.images > _CLEAR]
    weak = [name for name, column in profiles.items() if column.images > _WEAK]
    for candidates in (clear, weak):
        if candidates:
            return first_named(candidates, _IMAGE_NAMES) or candidates[0]
    return first_named(profiles, _IMAGE_NAMES)


def further_images(profiles: Mapping[str, ColumnProfile], image: str) -> list[str]:
    """Columns with further images of the product: numbered like the first one, or called additional."""
    stem = _stem(image)
    likely = [
        name for name, column in profiles.items() if name != image and (column.images > _CLEAR or not column.filled)
    ]
    numbered = [(number, name) for name in likely if (number := _number(name)) is not None and _stem(name) == stem]
    called = [name for name in likely if any(word in _plain(name) for word in _FURTHER)]
    return list(dict.fromkeys([*(name for _, name in sorted(numbered)), *called]))


def other_images(profiles: Mapping[str, ColumnProfile], used: Sequence[str]) -> list[str]:
    """Columns that hold images, too, and are not used."""
    return [name for name, column in profiles.items() if column.images > _CLEAR and name not in used]


def _plain(name: str) -> str:
    return re.sub(r"[\s.-]+", "_", name.strip().casefold())


def _stem(name: str) -> str:
    match = _NUMBERED.match(_plain(name))
    return (match[1] or "").rstrip("_ .-") if match else _plain(name)


def _number(name: str) -> int | None:
    match = _NUMBERED.match(_plain(name))
    return int(match[2]) if match else None
