"""Decode images: foreign bytes to a checked image that can be stored, a stored file to pixels.

    bytes -> named format -> size within limits -> metadata cut out -> decoded whole -> fingerprint -> stored bytes

A good JPEG, PNG or WebP keeps its compressed pixels; what is decoded and checked is the very file that is stored.
Other formats and images that must be turned, put on white or brought to 8-bit RGB are encoded anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import PIL
from PIL import Image, ImageFile

from phisight.core.errors import MissingImageError, UnreadableImageError
from phisight.core.geometry import CROP_SIZE
from phisight.core.run_folder import IMAGES
from phisight.data.images.decode_cost import check_cost, timed
from phisight.data.images.eight_bit import eight_bit, is_one_color, orientation_of, scale_clear_level, upright
from phisight.data.images.formats import OPENERS, recognized
from phisight.data.images.jpeg_scans import examine
from phisight.data.images.phash import FINGERPRINT_SIDE, fingerprint
from phisight.data.images.rejection import Rejection, StoredImage
from phisight.data.images.strip_metadata import STRIP


@dataclass(frozen=True)
class ImageLimits:
    """What an image may be; checked before anything is decoded."""

    max_bytes: int = 50_000_000
    max_pixels: int = 50_000_000
    min_side: int = 8


DECODER = f"2 pillow {PIL.__version__}"
"""Part of the keys of what is cached of pixels; the number is incremented whenever pixels of the same file change."""
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_DECODER_FAULTS = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError,
    Warning, RuntimeError, struct.error, zlib.error,
)  # fmt: skip


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever a decoder raises on foreign bytes into a Rejection."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Rejection("too_many_pixels", "more pixels than any image may have") from error
    except _DECODER_FAULTS as error:
        text = str(error).lower()
        cut = any(word in text for word in ("truncated", "unexpected end", "cut off", "eof", "incomplete"))
        if cut:
            raise Rejection("truncated", "only a part of the image is there") from error
        raise Rejection("corrupt", "the image cannot be decoded") from error


def load_image(path: str | Path, limits: ImageLimits | None = None) -> Image.Image:
    """Decode an image file to the RGB pixels that a data set would store; MissingImageError or UnreadableImageError."""
    limits = limits or ImageLimits()
    return decode_bytes(read_image(Path(path), limits, str(path)), str(path), limits)


def read_image(path: Path, limits: ImageLimits, name: str) -> bytes:
    """The bytes of a regular file within the limit; MissingImageError or UnreadableImageError, which say ``name``."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= limits.max_bytes:
            return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingImageError(f"there is no image {name}; check the path or build the data set again") from None
    except OSError as error:
        raise UnreadableImageError(f"{name}: cannot be read: {error.strerror}") from error
    if stat.S_ISREG(found.st_mode):
        raise UnreadableImageError(f"{name}: {found.st_size} bytes, more than the {limits.max_bytes} allowed")
    what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file (a pipe, socket or device)"
    raise UnreadableImageError(f"{name} is {what}, not an image")


def decode_bytes(data: bytes, name: str, limits: ImageLimits | None = None, *, checked: bool = False) -> Image.Image:
    """Decode the bytes of an image file as ``load_image`` does; UnreadableImageError, which calls it ``name``.

    ``checked``: a build has stored these very bytes, so they are known to be whole.
    """
    limits = limits or ImageLimits()
    with _named(data, name, limits):
        return decode_rgb(data, limits, checked=checked)


def image_size(data: bytes, name: str, limits: ImageLimits | None = None) -> tuple[int, int]:
    """Width and height as decoded, upright, from the header alone; UnreadableImageError as ``decode_bytes``."""
    limits = limits or ImageLimits()
    with _named(data, name, limits), _decoding():
        kind, data = recognized(data)
        check_cost(data, kind)
        found = _opened(data, kind, limits)
    size = found.image.size
    return (size[1], size[0]) if found.orientation > 4 else size


@contextlib.contextmanager
def _named(data: bytes, name: str, limits: ImageLimits) -> Iterator[None]:
    """Turn a Rejection into an UnreadableImageError that names the image."""
    if len(data) > limits.max_bytes:
        raise UnreadableImageError(f"{name}: {len(data)} bytes, more than the {limits.max_bytes} allowed")
    try:
        yield
    except Rejection as rejection:
        raise UnreadableImageError(f"{name}: {rejection.reason}") from rejection


@_decoding()
def decode_rgb(data: bytes, limits: ImageLimits, *, checked: bool = False) -> Image.Image:
    """Foreign bytes to upright 8-bit RGB pixels on white; Rejection otherwise.

    [Contract] The same pixels as decoding what ``prepare_image`` stores for these bytes, bit for bit.
    """
    name, data = recognized(data)
    check_cost(data, name)
    found = _opened(data, name, limits)
    if not checked:
        _check_whole(found, name)
    if not found.is_stored_anew:
        return found.image.convert("RGB")
    _, stored, name = _encode_anew(found, name)
    return _decoded(stored, name, limits).convert("RGB")


@_decoding()
def prepare_image(data: bytes, limits: ImageLimits) -> tuple[StoredImage, bytes]:
    """Check foreign bytes and return the file that is stored: its description and its bytes; Rejection otherwise."""
    if len(data) > limits.max_bytes:
        raise Rejection("too_large", f"{len(data)} bytes, more than the {limits.max_bytes} allowed")
    given, (name, data) = len(data), recognized(data)
    check_cost(data, name)
    found = _opened(data, name, limits)
    small = _check_whole(found, name)
    notes, kept = found.notes, found.stripped
    if len(data) < given:
        notes.add("leading")
    if kept is None or found.is_stored_anew:
        image, kept, name = _encode_anew(found, name)
        size = image.size
    else:
        size = found.image.size
        image = small or _decoded_small(found.image)
        if name == "JPEG" and data.find(kept[-64:]) + 64 < len(data):
            notes.add("trailing")
    if is_one_color(image) and is_one_color(_decoded(kept, name, limits)):
        notes.add("one_colour")
    if min(size) < 32:
        notes.add("tiny")
    phash, colors = fingerprint(image)
    sha256 = hashlib.sha256(kept).hexdigest()
    stored = StoredImage(
        file_name=f"{IMAGES}/{sha256[:2]}/{sha256[:32]}.{EXTENSIONS[name]}",
        sha256=sha256,
        width=size[0],
        height=size[1],
        format=name.lower(),
        size=len(kept),
        phash=phash,
        colors=colors,
        notes=",".join(sorted(notes)),
    )
    return stored, kept


def _open(data: bytes, name: str, limits: ImageLimits) -> ImageFile.ImageFile:
    """Read the header with the one decoder of that name and check the size before a pixel is decoded."""
    with _decoding():  # for metadata that a decoder stumbles over, here: others may do without them
        image = OPENERS[name](timed(data))
    width, height = image.size
    if width * height > limits.max_pixels:
        raise Rejection("too_many_pixels", f"{width} x {height} pixels, more than the {limits.max_pixels} allowed")
    if min(width, height) < limits.min_side:
        raise Rejection("too_small", f"{width} x {height} pixels, a side under the {limits.min_side} allowed")
    if max(width, height) > CROP_SIZE * min(width, height):
        raise Rejection("elongated", f"{width} x {height} pixels: in one crop of {CROP_SIZE} nothing of a side is left")
    return image


@dataclass(frozen=True)
class _Opened:
    """An image whose header was read."""

    image: ImageFile.ImageFile
    """To be decoded; without metadata where they can be cut out."""
    stripped: bytes | None
    """The bytes of that one; None where metadata cannot be cut out."""
    orientation: int
    notes: set[str]

    @property
    def is_stored_anew(self) -> bool:
        """Whether it is encoded anew: its pixels change, or its container cannot be cut."""
        return self.stripped is None or bool(self.notes & {"oriented", "alpha", "cmyk", "16bit", "converted"})


def _opened(data: bytes, name: str, limits: ImageLimits) -> _Opened:
    """Read the header; metadata that a decoder stumbles over count for nothing."""
    stripped = None
    if name in STRIP:
        with contextlib.suppress(ValueError):
            stripped = STRIP[name](data)
    image = _open(data if stripped is None else stripped, name, limits)
    if name == "PNG":
        scale_clear_level(image, data)
    orientation, animated = 1, getattr(image, "is_animated", False)  # n_frames would read every frame
    if stripped != data:
        with contextlib.suppress(Rejection):
            head = _open(data, name, limits)  # of its own: asked for EXIF data, a decoder may read all there is
            orientation, animated = orientation_of(head), getattr(head, "is_animated", False)
    return _Opened(image, stripped, orientation, _notes(image, name, orientation, animated))


def _check_whole(found: _Opened, name: str) -> Image.Image | None:
    """Rejection for a JPEG without the data of all its pixels; a note for one with data left over.

    Returns what ``_decoded_small`` would, where that came along.
    """
    if name != "JPEG" or found.stripped is None:
        return None
    scale = min(found.image.size) // FINGERPRINT_SIDE
    part = next((part for part in (8, 4, 2) if scale >= part), 0)
    examined = examine(found.stripped, part or 8)
    if examined.coverage == "missing":
        raise Rejection("truncated", "the file has its end, but not the data of all pixels")
    if examined.coverage == "left over":
        found.notes.add("damaged")
    return examined.image if part else None


def _decoded(data: bytes, name: str, limits: ImageLimits) -> Image.Image:
    """The image, decoded whole."""
    image = _open(data, name, limits)
    image.load()
    return image


def _decoded_small(image: ImageFile.ImageFile) -> Image.Image:
    """The image from all of its bytes, but a JPEG at a half to an eighth of its size where that leaves 128 pixels.

    Every compressed byte is read and checked all the same: what is saved is the inverse transform of frequencies that
    the fingerprint does not look at, half of a JPEG's decoding time.
    """
    scale = min(image.size) // FINGERPRINT_SIDE
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    image.load()
    return image


def _notes(image: ImageFile.ImageFile, name: str, orientation: int, animated: bool) -> set[str]:
    """What the header says: names of ``rejection.NOTES``."""
    found = set()
    if orientation > 1:
        found.add("oriented")
    if animated:
        found.add("animated")
    if image.mode == "CMYK":
        found.add("cmyk")
    if image.mode == "P":
        found.add("palette")
    if image.mode.startswith(("I", "F")):
        found.add("16bit")
    if image.has_transparency_data:
        found.add("alpha")
    unusual = image.mode not in ("L", "RGB", "P", "1") and not found & {"cmyk", "16bit", "alpha"}
    if name not in STRIP or unusual:
        found.add("converted")
    return found


def _encode_anew(found: _Opened, name: str) -> tuple[Image.Image, bytes, str]:
    """Upright in 8 bits on white; JPEG (quality 95) where the pixels were lossy, else PNG."""
    found.image.load()
    turn = orientation_of(found.image) if name == "TIFF" else found.orientation  # Pillow turns a TIFF that it loads
    image = upright(eight_bit(found.image), turn)
    file = io.BytesIO()
    plain = Image.frombytes(image.mode, image.size, image.tobytes())
    if name == "JPEG":
        plain.save(file, "JPEG", quality=95, subsampling=0)
        return plain, file.getvalue(), "JPEG"
    plain.save(file, "PNG")
    return plain, file.getvalue(), "PNG"
