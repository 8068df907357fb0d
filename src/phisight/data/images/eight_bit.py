"""Any decoded image as 8-bit RGB or gray on white, scaled by the range its values have."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from phisight.data.images.rejection import Rejection

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""
_BYTE, _WORD = 255, 65535


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for EXIF data that cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the parser of foreign EXIF raises whatever it stumbles over; the pixels do not depend on it
        return 1
    return found if found in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned and mirrored as its EXIF orientation says."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def eight_bit(image: Image.Image) -> Image.Image:
    """The image in mode RGB or L, transparency on white; Rejection ``value_range`` where its range cannot be told."""
    if image.mode.startswith(("I", "F")):
        return _deep_gray(image)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def scale_clear_level(image: Image.Image, png: bytes) -> None:
    """Of 2 and 4 bits of gray Pillow scales the levels of a PNG, but not the one that is transparent: do so."""
    depth, color, clear = png[24], png[25], image.info.get("transparency")
    if color == 0 and depth in (2, 4) and isinstance(clear, int):
        image.info["transparency"] = clear * _BYTE // (2**depth - 1)


def _on_white(image: Image.Image) -> Image.Image:
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > _BYTE:
        image.info["transparency"] = tuple(level >> 8 for level in clear)  # 16-bit levels; the pixels are high bytes
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", rgba.size, "white")
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


def _deep_gray(image: Image.Image) -> Image.Image:
    """Gray of more than 8 bits: by 16 bits where the format has them, else by the range of the values."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16"):
        levels = values.astype(np.float64) * (_BYTE / _WORD)
    elif not np.isfinite(values).all() or low < 0 or high > _WORD:
        raise Rejection("value_range", f"values from {low:g} to {high:g}; 0 to 1, 255 or 65535 are read")
    elif image.mode == "F":
        if high > _BYTE:
            raise Rejection("value_range", f"values from {low:g} to {high:g} with fractions; 0 to 1 or 255 are read")
        levels = values * _BYTE if high <= 1 else values
    else:
        levels = values if high <= _BYTE else values * (_BYTE / _WORD)
    gray = np.rint(levels).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        gray = np.where(values == clear, np.uint8(_BYTE), gray)
    return Image.fromarray(gray)


def is_one_color(image: Image.Image) -> bool:
    """An image that is not constant at four pixels cannot be constant as a whole: four pixels settle most of them."""
    corners = {image.getpixel((x, y)) for x in (0, image.width - 1) for y in (0, image.height - 1)}
    if len(corners) > 1:
        return False
    plain = image.convert("RGB") if image.mode not in ("L", "RGB") else image
    return all(low == high for low, high in (band.getextrema() for band in plain.split()))
