"""What decoding an image may cost, told from its bytes before anything is decoded.

A small file can ask for minutes of work: a progressive JPEG may hold thousands of scans, each a pass over every pixel;
a TIFF may chain thousands of directories, or hold such a JPEG. All are counted here and rejected past a cap that no
camera comes near.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import time

from PIL import TiffImagePlugin

from phisight.data.images.rejection import Rejection

DECODE_S = 10.0
"""Seconds of processor time one image may take to decode, so that a busy machine rejects nothing."""
MOST_SCANS = 100
MOST_SCANNED_PIXELS = 1_000_000_000
"""Scans times pixels of a JPEG."""
MOST_DIRECTORIES = 1000
_EXPENSIVE_BYTES = 400_000
_EXPENSIVE_PIXELS = 4_000_000
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SCAN = re.compile(rb"\xff\xda")  # half the time of bytes.count
_COMPRESSION = 259
_JPEG_IN_TIFF = {6, 7}
_STRIPS = ((273, 279), (324, 325))
"""Tags of where strips and tiles begin, and of their lengths."""
_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


class TimedBytes(io.BytesIO):
    """Bytes for a decoder that takes them piece by piece; past the time limit a read by its thread raises Rejection."""

    def __init__(self, data: bytes, seconds: float = DECODE_S) -> None:
        super().__init__(data)
        self._deadline, self._thread = time.thread_time() + seconds, threading.get_ident()
        self._seconds = seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO."""
        if threading.get_ident() == self._thread and time.thread_time() > self._deadline:
            raise Rejection("decode_time", f"not decoded after {self._seconds:g} s of processor time")
        return super().read(size)


def timed(data: bytes) -> io.BytesIO:
    """A file of the bytes: with the time limit where decoding may be expensive."""
    return TimedBytes(data) if is_expensive(data) else io.BytesIO(data)


def check_cost(data: bytes, name: str) -> None:
    """Rejection for an image of too many scans or directories; ``name`` is Pillow's name of the format."""
    if name == "JPEG":
        scans = len(_SCAN.findall(data))
        width, height, _ = jpeg_frame(data)
        if scans > MOST_SCANS or scans * width * height > MOST_SCANNED_PIXELS:
            raise Rejection("too_many_scans", f"{scans} scans of {width} x {height} pixels; at most {MOST_SCANS} scans")
    elif name == "TIFF" and tiff_directories(data) > MOST_DIRECTORIES:
        raise Rejection("too_many_scans", f"more than {MOST_DIRECTORIES} directories")


def check_strips(image: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Rejection for a TIFF whose strips or tiles are JPEGs of too many scans."""
    tags = image.tag_v2
    if tags.get(_COMPRESSION) not in _JPEG_IN_TIFF:
        return
    found: dict[tuple[int, int], int] = {}
    total = 0
    for offsets, lengths in _STRIPS:
        # a damaged file may have fewer of one than of the other
        for part in zip(_numbers(tags.get(offsets)), _numbers(tags.get(lengths)), strict=False):
            if part not in found:
                found[part] = len(_SCAN.findall(data, part[0], part[0] + part[1]))
            total += found[part]
            if found[part] > MOST_SCANS or total > MOST_SCANS * MOST_DIRECTORIES:
                raise Rejection("too_many_scans", f"a TIFF of JPEGs of {total} scans; at most {MOST_SCANS} each")


def _numbers(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(one for one in values if isinstance(one, int))


def is_expensive(data: bytes) -> bool:
    """Whether decoding may take more than some 50 ms, so that it must not hold up other work."""
    if len(data) > _EXPENSIVE_BYTES:
        return True
    if data.startswith(b"\xff\xd8"):
        width, height, progressive = jpeg_frame(data)
        return width * height > (_EXPENSIVE_PIXELS // 4 if progressive else _EXPENSIVE_PIXELS)
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return int(width * height) > _EXPENSIVE_PIXELS // 2
    if data[8:12] == b"WEBP" and len(data) >= 30:
        width, height = _webp_size(data)
        return width * height > _EXPENSIVE_PIXELS // 4
    return True


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP by its first chunk; one without them counts as large."""
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return _EXPENSIVE_PIXELS, 1


def jpeg_frame(data: bytes) -> tuple[int, int, bool]:
    """Width, height and whether a JPEG is progressive; (0, 0, False) where no frame header is found."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height, marker in _PROGRESSIVE
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0, 0, False


def tiff_directories(data: bytes) -> int:
    """Directories in a TIFF's chain, counted to one past the cap; a chain that leaves the file or loops ends it."""
    order = "<" if data[:2] == b"II" else ">"
    seen: set[int] = set()
    at = struct.unpack_from(f"{order}I", data, 4)[0] if len(data) >= 8 else 0
    while at and at + 2 <= len(data) and at not in seen and len(seen) <= MOST_DIRECTORIES:
        seen.add(at)
        entries = struct.unpack_from(f"{order}H", data, at)[0]
        end = at + 2 + 12 * entries
        at = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
    return len(seen)
