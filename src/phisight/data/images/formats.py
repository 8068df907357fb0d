"""Which format bytes are in, by their first bytes alone, and the one decoder that opens it.

Names, extensions and content types count for nothing: a JPEG called ``a.png`` is a JPEG.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from phisight.data.images.decode_cost import check_strips
from phisight.data.images.rejection import Rejection

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_STRAY = b"\xef\xbb\xbf \t\r\n\0"
_MOST_STRAY = 16


def _open_avif(file: io.BytesIO) -> ImageFile.ImageFile:
    if not features.check("avif"):
        raise Rejection("no_decoder", "AVIF, and this Pillow was built without AVIF; install one from PyPI")
    try:
        return AvifImagePlugin.AvifImageFile(file)
    except Exception:  # its EXIF data may be broken: the item is hidden, orientation is a property of its own
        return AvifImagePlugin.AvifImageFile(io.BytesIO(file.getvalue().replace(b"Exif", b"none", 1)))


def _open_heif(file: io.BytesIO) -> ImageFile.ImageFile:
    try:
        from pi_heif import HeifImageFile
    except ImportError:
        raise Rejection("no_decoder", "HEIC; to read it: pip install 'phisight[heif]'") from None
    found: ImageFile.ImageFile = HeifImageFile(file)
    return found


def _open_tiff(file: io.BytesIO) -> ImageFile.ImageFile:
    image = TiffImagePlugin.TiffImageFile(file)
    check_strips(image, file.getvalue())
    return image


OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": _open_tiff,
    "AVIF": _open_avif,
    "HEIF": _open_heif,
}
"""The only decoders that foreign bytes reach."""
_READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "a JPEG 2000"),
    (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "a JPEG XL"),
    (rb"%PDF-", "a PDF"),
    (rb"8BPS", "a Photoshop file"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "an icon (ICO)"),
    (rb"P[1-7][\s#]|P[Ff][\s]", "a PNM (netpbm)"),
    (rb"qoif", "a QOI"),
    (rb"DDS ", "a DDS"),
    (rb"(?s)....ftyp", "a video"),
    (rb"\x1aE\xdf\xa3|FLV\x01|(?s:RIFF....AVI )|\0\0\x01[\xba\xb3]", "a video"),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a compressed file"),
    (rb"SQLite format|PAR1|\x89HDF", "a data file"),
    (rb"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded (git lfs pull)"),
    (rb"data:image/", "a data: address; put it into the table's cell instead"),
)
_HTML = re.compile(rb"<!doctype html|<(html|head|body|script|title|meta|div|p)\b|<!--")
_SVG = re.compile(rb"<svg\b|<!doctype svg")


def recognized(data: bytes) -> tuple[str, bytes]:
    """Pillow's name of the format and the image's bytes, without stray bytes before it; Rejection for anything else."""
    if not data:
        raise Rejection("empty_body", "no bytes")
    name = _name_of(data)
    if name is None:
        inner = data[_MOST_STRAY:] if not data[:_MOST_STRAY].strip(_STRAY) else data.lstrip(_STRAY)
        if len(data) - len(inner) < _MOST_STRAY and (name := _name_of(inner)) in ("JPEG", "PNG", "GIF", "WEBP"):
            return name, inner
        raise _other(data)
    return name, data


def _name_of(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data[4:8] == b"ftyp":
        length = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, length, 4))}
        if data[8:12] in _AVIF_BRANDS or (data[8:12] in (b"mif1", b"msf1") and brands & _AVIF_BRANDS):
            return "AVIF"
        return "HEIF" if data[8:12] in _HEIC_BRANDS else None
    return None


def _other(data: bytes) -> Rejection:
    """The rejection of bytes in no format that is read, with the name of what they are where that can be told."""
    for pattern, what in _OTHERS:
        if re.match(pattern, data):
            return Rejection("not_an_image", f"{what}, not {_READ}")
    start = data[:2048].lstrip(_STRAY).lower()
    if _SVG.search(start) and b"<html" not in start and not start.startswith(b"<!doctype html"):
        return Rejection("not_an_image", f"an SVG drawing, not {_READ}; save it as PNG")
    if _HTML.match(start):
        return Rejection("html", "a web page instead of an image")
    if start.startswith(b"<"):
        return Rejection("not_an_image", f"XML, not {_READ}; servers say so that access is denied")
    if start.startswith((b"{", b"[")):
        return Rejection("not_an_image", f"JSON, not {_READ}; servers say so that something failed")
    if not data.strip(b"\0"):
        return Rejection("not_an_image", f"{len(data)} zero bytes: the file was made but never written")
    return Rejection("not_an_image", f"not {_READ}; it begins with {data[:8].hex()}")
