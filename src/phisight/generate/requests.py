"""What is put to the model: a prompt and its images, decoded only when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from phisight.core.errors import UnreadableImageError
from phisight.data.images.decode import load_image
from phisight.data.images.eight_bit import eight_bit, orientation_of, upright
from phisight.data.images.recorded import RecordedImage

ImageSource = Path | RecordedImage | Image.Image | Callable[[], Image.Image]
"""A file, an image of a data set, a decoded image, or a function that makes one."""


@runtime_checkable
class SlowSource(Protocol):
    """A function that makes an image and waits for somebody else meanwhile; it may be started before it is called."""

    def start(self) -> None:
        """Begin; more than one may be started at once."""

    def __call__(self) -> Image.Image:
        """The image."""


def unusable(reason: str) -> Callable[[], Image.Image]:
    """What stands for an image that cannot be had: UnreadableImageError when its turn comes."""

    def fail() -> Image.Image:
        raise UnreadableImageError(reason)

    return fail


@dataclass(frozen=True)
class Request:
    """One question about one or more images."""

    prompt: str
    images: Sequence[ImageSource] = ()

    def messages(self) -> list[dict[str, object]]:
        """The request as chat messages."""
        return messages_of(self.prompt, len(self.images))


def messages_of(prompt: str, images: int) -> list[dict[str, object]]:
    """A prompt about so many images as a model is trained on it: the images, then the prompt."""
    parts: list[dict[str, str]] = [{"type": "image"} for _ in range(images)]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}]


def cut_at(tokens: int) -> str:
    """Why an answer without an end token is not read: its last number may lack its last digits."""
    return f"cut at {tokens} tokens"


def load_rgb(source: ImageSource) -> Image.Image:
    """An image in upright 8-bit RGB on white: of a file, the very pixels a data set would store.

    Raises:
        MissingImageError: The file is not there.
        UnreadableImageError: The bytes are no image, or only half of one.
        ChangedImageError: An image of a data set is not the one that its table records.
    """
    if isinstance(source, RecordedImage):
        return source.load()
    if isinstance(source, Image.Image):
        source.load()  # Pillow turns a TIFF upright when it loads it, and takes the orientation away
        return upright(eight_bit(source), orientation_of(source)).convert("RGB")
    return load_image(source) if isinstance(source, Path) else load_rgb(source())


def shape_of(source: ImageSource) -> float:
    """Width over height, from the header alone; 1.0 where that is not known without decoding."""
    if isinstance(source, Image.Image):
        return source.width / source.height
    path = source.path if isinstance(source, RecordedImage) else source
    if not isinstance(path, Path) or not path.is_file():
        return 1.0
    try:
        with Image.open(path) as image:
            return image.width / image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1.0  # the error is raised, with its name, when the image is decoded
