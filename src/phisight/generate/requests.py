"""What is put to the model: a prompt and its pictures, decoded only when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from phisight.data.images.decode import load_image

Picture = Path | Image.Image | Callable[[], Image.Image]
"""A file, a decoded picture, or a function that makes one."""


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
    """Decode a picture whole, in RGB.

    Raises:
        MissingImageError: The file is not there.
        UnreadableImageError: The bytes are no picture, or only half of one.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if isinstance(picture, Path):
        return ImageOps.exif_transpose(load_image(picture)).convert("RGB")
    return picture().convert("RGB")


def shape_of(picture: Picture) -> float:
    """Width over height, from the header alone; 1.0 where that is not known without decoding."""
    if isinstance(picture, Image.Image):
        return picture.width / picture.height
    if not isinstance(picture, Path):
        return 1.0
    try:
        with Image.open(picture) as image:
            return image.width / image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1.0  # the error is raised, with its name, when the picture is decoded
