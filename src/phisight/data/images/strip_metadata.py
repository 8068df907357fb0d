"""Cut metadata out of JPEG, PNG and WebP files without encoding them again.

Each function walks the container, keeps what a decoder needs and drops the rest (EXIF, GPS, XMP, IPTC, color
profiles, comments, thumbnails, second images, bytes after the end). Compressed pixels are copied byte for byte.

Sources: ITU-T T.81 annex B (JPEG markers), PNG third edition section 11 (chunks), RFC 9649 (WebP).
A file whose structure does not hold raises ValueError: half of one, or no image of this format.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_KEEP = {0xE0, 0xEE}
"""Application segments a decoder may need: JFIF (APP0) and Adobe's color transform (APP14)."""
_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff(?=[^\x00\xd0-\xd7\xff])")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEEP = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def strip_jpeg(data: bytes) -> bytes:
    """A JPEG without application segments (but JFIF and Adobe) and comments, cut after its end marker."""
    if not data.startswith(JPEG_START):
        raise ValueError("no start of image")
    kept, at, scanned = [JPEG_START], 2, False
    while True:
        marker, at = _next_marker(data, at)
        if marker == 0xD9:
            if not scanned:
                raise ValueError("end of image before a scan")
            return b"".join([*kept, JPEG_END])
        if at + 2 > len(data):
            raise ValueError("cut off in a segment")
        (length,) = struct.unpack_from(">H", data, at)
        end = at + length
        if length < 2 or end > len(data):
            raise ValueError("cut off in a segment")
        if _jpeg_needed(marker, data[at + 2 : end]):
            kept.append(b"\xff" + bytes([marker]) + data[at:end])
        at = end
        if marker == 0xDA:
            scanned = True
            end = _end_of_scan(data, at)
            kept.append(data[at:end])
            at = end


def _jpeg_needed(marker: int, payload: bytes) -> bool:
    if marker == 0xE0:
        return payload.startswith(b"JFIF\0")
    if marker == 0xEE:
        return payload.startswith(b"Adobe")
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """The next marker from ``at`` on, stray and fill bytes before it passed over, and where its segment begins."""
    found = _MARKER.search(data, at)
    if found is None:
        raise ValueError("cut off before the end of image")
    return data[found.end() - 1], found.end()


def _end_of_scan(data: bytes, at: int) -> int:
    """Where entropy-coded data ends: at the next marker that is neither stuffing (FF00) nor a restart (FFD0-D7)."""
    found = _MARKER_IN_SCAN.search(data, at)
    if found is None:
        raise ValueError("cut off in the pixels")
    return found.start()


def strip_png(data: bytes) -> bytes:
    """A PNG of its critical chunks and transparency alone; an animated one becomes its still image."""
    if not data.startswith(_PNG_SIGNATURE):
        raise ValueError("no PNG signature")
    kept, at = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            break
        if kind in _PNG_KEEP:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end
    raise ValueError("cut off before the end of image")


def strip_webp(data: bytes) -> bytes:
    """A WebP of its image chunk alone, in the simple layout; ValueError for an animated or transparent lossy one."""
    if len(data) < 20 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("no WebP signature")
    (declared,) = struct.unpack_from("<I", data, 4)
    end_of_file = 8 + int(declared)
    if end_of_file > len(data):
        raise ValueError("cut off before the end of image")
    at = 12
    while at + 8 <= end_of_file:
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + (length & 1)
        if kind in (b"ANIM", b"ALPH"):
            raise ValueError("animated or transparent")
        if kind in (b"VP8 ", b"VP8L"):
            chunk = data[at : at + 8 + length] + b"\0" * (length & 1)
            return b"".join([b"RIFF", struct.pack("<I", 4 + len(chunk)), b"WEBP", chunk])
        at = end
    raise ValueError("no image chunk")


STRIP: dict[str, Callable[[bytes], bytes]] = {"JPEG": strip_jpeg, "PNG": strip_png, "WEBP": strip_webp}
"""By Pillow's name of the format."""
