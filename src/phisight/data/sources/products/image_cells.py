"""The images in a cell: one, or several in a list (JSON, Python's repr, ``;``, ``|``, ``,`` or lines between)."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from phisight.data.images.image_names import is_written_image, looks_like_address, looks_like_image

_SEPARATORS = ("\n", "|", ";", ",")
_LONGEST_LIST = 200_000
_NAMES = ("url", "src", "image", "path", "link", "href", "file_name", "image_url")
"""What an image is called in an object of a list."""


def images_in(cell: Any) -> list[Any]:
    """Texts, bytes or mappings with bytes and path, in order; none for an empty cell."""
    if cell is None:
        return []
    if isinstance(cell, list | tuple):
        return [image for one in cell for image in images_in(one)]
    if isinstance(cell, Mapping):
        if cell.get("bytes") is not None:
            return [cell]
        named = next((cell[name] for name in _NAMES if cell.get(name)), None)
        return images_in(named)
    if isinstance(cell, bytes):
        return [cell] if cell else []
    text = str(cell).strip()
    if not text:
        return []
    if text[0] in "[({":
        listed = _listed(text)
        if listed is not None:
            return images_in(listed)
    return list(_divided(text))


def _listed(text: str) -> Any:
    """The value of a list or object written as JSON or by Python; none where it is neither."""
    if len(text) > _LONGEST_LIST and not text.startswith(("[", "{")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if len(text) > _LONGEST_LIST:
            return None
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
    return value if isinstance(value, list | tuple | dict) else None


def _divided(text: str) -> list[str]:
    """The parts of a text between separators where each is an image; else the text as it is.

    A separator divides addresses only where each part is an address, so that ``https://host/w_200,h_300/a.jpg`` is one.
    """
    if is_written_image(text):
        return [text]
    for separator in (one for one in _SEPARATORS if one in text):
        parts = [part for part in (part.strip() for part in text.split(separator)) if part]
        if len(parts) < 2:
            continue
        addresses = [looks_like_address(part) for part in parts]
        if all(addresses) or (not any(addresses) and all(map(looks_like_image, parts))):
            return parts
    return [text.rstrip(";|,").strip() if text[-1] in ";|," else text]
