"""Does a JPEG hold the compressed data of every pixel? What the decoder only warns about, told from what it decodes.

libjpeg fills what is missing with gray and passes over what is left, and Pillow hands neither warning on. So the file
is decoded in a changed frame, in which data of the right length leave a known mark:

    one scan                 a height of one more row of blocks: past the end of the data the decoder writes plain gray
    restart intervals        each interval as a row of its own, two blocks longer than it is
    several scans            the taller frame once, and once with bytes added to every scan: they must change no pixel

Data left over appear in the blocks that should be gray. Data missing leave the last block gray: where it is, bytes are
added to the scan, and only a decoder that was still waiting for data makes pixels of them. An image that is really
gray there, padding bits and stray bytes before a marker therefore raise no alarm.

Decoded at a part of the size, the taller frame gives the image itself as well, but for the rows below it: a build
needs it at that size, so a usual JPEG is decoded once in all.

A hole of zeros may decode to just as many pixels as it replaced. But where the code of zero bits stands for a frequency
of its own, no image has hundreds of zero bytes.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin

from phisight.data.images.decode_cost import timed
from phisight.data.images.jpeg_layout import PROGRESSIVE, RESTART, Layout, Scan, before_fill, layout_of

Coverage = Literal["whole", "missing", "left over"]
Levels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

_LONGEST_SIDE = 65500
_MOST_PIXELS = 120_000_000
_PARTS = (8, 4, 2)
"""Where no rows of colors are mixed with those beside them, as the decoder does at full size."""
_FIRST_BLOCKS = 8
"""MCUs behind the data of several scans in which padding bits may show."""
_FINEST_SEEN = 4
"""Of several scans some hold high frequencies alone, of which nothing is left at a smaller part of the size."""
_HOLE = bytes(256)
_ADDED = bytes(1 + (at * 167 + at * at * 31) % 253 for at in range(1024))
"""Bytes added to a scan: any without 0xFF."""


class Examined(NamedTuple):
    """What is said of a JPEG, and the image at the part of its size that was asked for, where that was decoded."""

    coverage: Coverage
    image: Image.Image | None = None


def examine(data: bytes, part: int = 8) -> Examined:
    """Whether the scans of a JPEG (cut after its end marker) hold what its frame asks for.

    ``part``: 8, 4 or 2 for an eighth, a quarter or a half of the size. ``whole`` also for what cannot be judged:
    arithmetic coding, and files that the decoder rejects by itself.
    """
    assert part in _PARTS, part
    layout = layout_of(data)
    if layout is None or layout.marker not in (0xC0, 0xC1, PROGRESSIVE) or not layout.width * layout.height:
        return Examined("whole")
    lacks = any(_lacks_restarts(data, layout, scan) or _has_hole(data, scan) for scan in layout.scans)
    if lacks or _lacks_scans(layout):
        return Examined("missing")
    if len(layout.scans) > 1 or layout.marker == PROGRESSIVE:
        return _of_several_scans(data, layout, part)
    scan = layout.scans[0]
    if 0 < scan.interval < layout.blocks(scan):
        return _of_intervals(data, layout, scan, part)
    return _of_one_scan(data, layout, scan, part)


def _has_hole(data: bytes, scan: Scan) -> bool:
    return scan.has_pixels_in_zeros and data.find(_HOLE, scan.begin, scan.end) >= 0


def _lacks_restarts(data: bytes, layout: Layout, scan: Scan) -> bool:
    """Whether restart markers are missing, out of order, or where there should be none: the decoder stops at such."""
    found = [one[0] & 7 for one in RESTART.findall(data, scan.begin, scan.end)]
    due = -(-layout.blocks(scan) // scan.interval) - 1 if scan.interval else 0
    return found[:due] != [at % 8 for at in range(due)] or bool(found and not scan.interval)


def _lacks_scans(layout: Layout) -> bool:
    """Whether some coefficient never got its last bit, or a component no scan."""
    bits: dict[int, list[int]] = {one: [99] * 64 for one in layout.sampling}
    for scan in layout.scans:
        count = scan.header[0]
        first, last, approximation = scan.header[1 + 2 * count : 4 + 2 * count]
        if layout.marker != PROGRESSIVE:
            first, last, approximation = 0, 63, 0
        for one in scan.header[1 : 1 + 2 * count : 2]:
            if one in bits:
                bits[one][first : last + 1] = [approximation & 15] * (last + 1 - first)
    return any(max(one) > 0 for one in bits.values())


def _of_one_scan(data: bytes, layout: Layout, scan: Scan, part: int) -> Examined:
    columns, rows = layout.columns, layout.rows - (-4 // layout.columns)
    framed = _reframed(data, layout, layout.width, rows * layout.mcu[1])
    brightness = not layout.has_square_sampling
    image = None if framed is None else _decoded(framed, part, brightness=brightness)
    if framed is None or image is None:
        return Examined("whole")
    last = layout.rows * columns
    blocks = _blocks(image, columns, rows, layout.mcu, part)
    found = None if brightness else _cropped(image, layout, part)
    if not _all_gray(blocks[last + 1 :]):
        return Examined("left over", found)
    if _all_gray(blocks[last - 1 : last]):
        longer = _decoded(_with_added(framed, [scan.end]), part, brightness=brightness)
        if longer is not None:
            again = _blocks(longer, columns, rows, layout.mcu, part)
            if not np.array_equal(again[:last], blocks[:last]):
                return Examined("missing")
    return Examined("whole", found)


def _of_intervals(data: bytes, layout: Layout, scan: Scan, part: int) -> Examined:
    """Each interval in rows of its own that are at least two MCUs longer."""
    wide, high = layout.mcu
    total, interval = layout.columns * layout.rows, scan.interval
    count = -(-total // interval)
    lines = -(-(interval + 2) // (_LONGEST_SIDE // wide))
    columns = -(-(interval + 2) // lines)
    framed = _reframed(data, layout, columns * wide, count * lines * high, columns * lines)
    image = None if framed is None else _decoded(framed, 8, brightness=True)
    if framed is None or image is None:
        return _of_several_scans(data, layout, part)
    by_interval = _blocks(image, columns, count * lines, layout.mcu, 8).reshape(count, columns * lines, -1)
    lengths = [interval] * (count - 1) + [total - interval * (count - 1)]
    if not all(_all_gray(row[length + 1 :]) for row, length in zip(by_interval, lengths, strict=True)):
        return Examined("left over")
    if not any(_all_gray(row[length - 1 : length]) for row, length in zip(by_interval, lengths, strict=True)):
        return Examined("whole")
    ends = _restarts(data, scan)[: count - 1]
    longer = _decoded(_with_added(framed, [*ends, scan.end]), 8, brightness=True)
    if longer is None:
        return Examined("whole")
    again = _blocks(longer, columns, count * lines, layout.mcu, 8).reshape(by_interval.shape)
    same = [np.array_equal(a[:n], b[:n]) for a, b, n in zip(by_interval, again, lengths, strict=True)]
    return Examined("whole" if all(same) else "missing")


def _of_several_scans(data: bytes, layout: Layout, part: int) -> Examined:
    scale = min(part, _FINEST_SEEN)
    extra = -(-_FIRST_BLOCKS // layout.columns) + 1
    framed = _reframed(data, layout, layout.width, (layout.rows + extra) * layout.mcu[1])
    brightness = not layout.has_square_sampling
    image = None if framed is None else _decoded(framed, scale, brightness=brightness)
    if framed is None or image is None:
        return Examined("whole")
    ends = [end for scan in layout.scans for end in (*_restarts(data, scan), scan.end)]
    longer = _decoded(_with_added(framed, ends), scale, brightness=brightness)
    if longer is None:
        return Examined("whole")
    height, plain = layout.height // scale, np.asarray(image)
    if not np.array_equal(plain[:height], np.asarray(longer)[:height]):
        return Examined("missing")
    found = None if brightness or scale != part else _cropped(image, layout, scale)
    gray = _gray_below(plain, layout, extra, scale)
    return Examined("whole" if gray else "left over", found)


def _gray_below(plain: Levels, layout: Layout, extra: int, scale: int) -> bool:
    """Whether the rows under the image are plain gray, but for the first blocks."""
    wide, high, whole = layout.mcu[0] // scale, layout.mcu[1] // scale, layout.width // layout.mcu[0]
    if not whole:
        return True
    below = plain[layout.rows * high :, : whole * wide].reshape(extra, high, whole, wide, -1)
    gray = ((below == 127) | (below == 128)).all(axis=(1, 3, 4))
    if whole == layout.columns:
        gray.reshape(-1)[:_FIRST_BLOCKS] = True
    else:
        gray[: extra - 1] = True
    return bool(gray.all())


def _restarts(data: bytes, scan: Scan) -> list[int]:
    """Where compressed data end before a restart marker."""
    return [before_fill(data, one.start()) for one in RESTART.finditer(data, scan.begin, scan.end)]


def _reframed(data: bytes, layout: Layout, width: int, height: int, interval: int | None = None) -> bytes | None:
    """The file with another size and interval in its header; None where the format has no such size."""
    if max(width, height) > _LONGEST_SIDE or width * height > _MOST_PIXELS or (interval or 0) > 65535:
        return None
    changed = bytearray(data)
    struct.pack_into(">HH", changed, layout.frame_at + 5, height, width)
    if interval is not None:
        struct.pack_into(">H", changed, layout.scans[0].interval_at, interval)
    return bytes(changed)


def _with_added(data: bytes, ends: Sequence[int]) -> bytes:
    """The file with bytes added to the compressed data that end at these places (in order)."""
    edges = [0, *ends, len(data)]
    return _ADDED.join(data[begin:end] for begin, end in itertools.pairwise(edges))


def _decoded(data: bytes, scale: int, *, brightness: bool) -> Image.Image | None:
    """The image at a part of its size, ``brightness`` alone where the format allows it; None where it fails.

    Colors of fewer pixels in one direction are mixed with those beside them, which blurs where data end.
    """
    try:
        image = JpegImagePlugin.JpegImageFile(timed(data))
        width, height = image.size
        image.draft("L" if brightness else None, (max(1, width // scale), max(1, height // scale)))
        if image.size != (-(-width // scale), -(-height // scale)):
            return None  # too small for that
        image.load()
    except Exception:  # the decoder's own verdict is on the file as it is; this one is of a changed copy
        return None
    return image


def _cropped(image: Image.Image, layout: Layout, scale: int) -> Image.Image:
    """The image without the rows below."""
    return image.crop((0, 0, -(-layout.width // scale), -(-layout.height // scale)))


def _blocks(image: Image.Image, columns: int, rows: int, mcu: tuple[int, int], scale: int) -> Levels:
    """uint8[rows * columns, levels]: what is decoded of each MCU in order; those at the right edge are filled up."""
    levels: Levels = np.asarray(image)
    wide, high = mcu[0] // scale, mcu[1] // scale
    short = columns * wide - levels.shape[1]
    if short:
        levels = np.concatenate([levels, np.repeat(levels[:, -1:], short, axis=1)], axis=1)
    tiles = levels.reshape(rows, high, columns, -1)
    return tiles.swapaxes(1, 2).reshape(rows * columns, -1)


def _all_gray(blocks: Levels) -> bool:
    """Whether these hold what the decoder writes where it has no data (127 in inverted colors)."""
    return bool(((blocks == 127) | (blocks == 128)).all())
