"""What a text that names an image looks like: endings of image files, addresses, images written as text."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Collection
from pathlib import Path

IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif",
}  # fmt: skip
_ENDING = re.compile(
    rf"\.(?:{'|'.join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))})(?:[?#].*)?$", re.IGNORECASE | re.DOTALL
)
_ADDRESS = re.compile(r"(?:https?:)?//[^\s/]+/?|s3://|gs://|data:image/", re.IGNORECASE)
_STARTS = ("/9j/", "_9j_", "iVBORw0KGgo", "UklGR", "R0lGOD", "Qk", "SUkqA", "TU0AK", "AAAA")
"""How JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF begin in base64."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_SHORTEST = 100


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is nobody's data: hidden, or what macOS adds to archives."""
    return name.startswith((".", "__MACOSX"))


def image_files(path: Path, without: Collection[Path] = ()) -> list[str]:
    """Names below a folder that end like an image's, sorted; hidden files and folders are left out."""
    found = []
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        visible = sorted(name for name in folders if not is_hidden(name))
        folders[:] = [name for name in visible if here / name not in without]
        below = here.relative_to(path)
        found += [
            (below / name).as_posix()
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122
        ]
    return sorted(found)


def looks_like_image(text: str) -> bool:
    """Whether a text ends like an image file or its address, or is an image written as text."""
    return bool(_ENDING.search(text[-500:].strip())) or is_written_image(text)


def looks_like_address(text: str) -> bool:
    """Whether a text begins like an address."""
    return bool(_ADDRESS.match(text))


def is_written_image(text: str) -> bool:
    """Whether a text is an image itself: a ``data:`` address, or base64."""
    if text[:11].lower() == "data:image/":
        return True
    return len(text) >= _SHORTEST and text.startswith(_STARTS) and bool(_BASE64.fullmatch("".join(text.split())))


def written_image(text: str) -> bytes | None:
    """The bytes of an image that is written as text; none where it is not."""
    if not is_written_image(text):
        return None
    body = text.partition(",")[2] if text[:5].lower() == "data:" else text
    body = "".join(body.split()).replace("-", "+").replace("_", "/").replace("%2B", "+").replace("%2F", "/")
    body = body.replace("%3D", "=").rstrip("=")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4)) or None
    except binascii.Error:
        return None
