"""What is put to the model: a prompt and its pictures, decoded only when their turn comes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from phisight.core.errors import MissingImageError, UnreadableImageError

Picture = Path | bytes | Image.Image | Callable[[], Image.Image]
"""A file, its bytes, a decoded picture, or a function that makes one."""


@dataclass(frozen=True)
class Request:
    """One question about one or more pictures."""

    prompt: str
    pictures: Sequence[Picture] = ()

    def messages(self) -> list[dict[str, object]]:
        """The request as chat messages: the pictures, then the prompt."""
        parts: list[dict[str, str]] = [{"type": "image"} for _ in self.pictures]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.prompt}]}]


def load_picture(picture: Picture) -> Image.Image:
    """Decode a picture whole: turned as its EXIF says, RGB.

    Raises:
        MissingImageError: The file is not there.
        UnreadableImageError: The bytes are no picture, or only half of one.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if callable(picture):
        return picture().convert("RGB")
    name = str(picture) if isinstance(picture, Path) else f"a picture of {len(picture)} bytes"
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingImageError(f"there is no picture {name}; check the path or build the data set again") from error
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"{name} cannot be decoded ({error}); replace the file") from error


def shape_of(picture: Picture) -> float:
    """Width over height, from the header alone; 1.0 where that is not known without decoding."""
    if isinstance(picture, Image.Image):
        return picture.width / picture.height
    if callable(picture):
        return 1.0
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            return image.width / image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1.0  # the error is raised, with its name, when the picture is decoded
