"""Does a JPEG hold the compressed data of every pixel? What the decoder only warns about, told from what it decodes.

libjpeg fills what is missing with gray and passes over what is left, and Pillow hands neither warning on. So the file
is decoded once more in a changed frame, in which data of the right length leave a known mark:

    one scan                 a height of one more row of blocks: past the end of the data the decoder writes plain gray
    restart intervals        each interval as a row of its own, two blocks longer than it is
    several scans            the taller frame once, and once with bytes added to every scan: they must change no pixel

Data left over appear in the blocks that should be gray. Data missing leave the last block gray: where it is, bytes are
added to the scan, and only a decoder that was still waiting for data makes pixels of them. An image that is really
gray there, padding bits and stray bytes before a marker therefore raise no alarm.

A hole of zeros may decode to just as many pixels as it replaced. But where the code of zero bits stands for a frequency
of its own, no image has hundreds of zero bytes.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import JpegImagePlugin

from phisight.data.images.decode_cost import timed
from phisight.data.images.jpeg_layout import PROGRESSIVE, RESTART, Layout, Scan, layout_of

Coverage = Literal["whole", "missing", "left over"]
Levels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

_LONGEST_SIDE = 65500
_MOST_PIXELS = 120_000_000
_LARGE = 4_000_000
"""Pixels above which several scans are compared at half the size."""
_FIRST_BLOCKS = 8
"""MCUs behind the data of several scans in which padding bits may show."""
_HOLE = bytes(256)
_ADDED = bytes(1 + (at * 167 + at * at * 31) % 253 for at in range(96))
"""Bytes added to a scan: any without 0xFF."""


def coverage(data: bytes) -> Coverage:
    """Whether the scans of a JPEG (cut after its end marker) hold what its frame asks for.

    ``whole`` also for what cannot be judged: arithmetic coding, and files that the decoder rejects by itself.
    """
    layout = layout_of(data)
    if layout is None or layout.marker not in (0xC0, 0xC1, PROGRESSIVE) or not layout.width * layout.height:
        return "whole"
    lacks = any(_lacks_restarts(data, layout, scan) or _has_hole(data, scan) for scan in layout.scans)
    if lacks or _lacks_scans(layout):
        return "missing"
    if len(layout.scans) > 1 or layout.marker == PROGRESSIVE:
        return _of_several_scans(data, layout)
    scan = layout.scans[0]
    if 0 < scan.interval < layout.blocks(scan):
        return _of_intervals(data, layout, scan)
    return _of_one_scan(data, layout, scan)


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


def _of_one_scan(data: bytes, layout: Layout, scan: Scan) -> Coverage:
    extra = -(-4 // layout.columns)
    columns, rows = layout.columns, layout.rows + extra
    framed = _reframed(data, layout, columns * layout.mcu[0], rows * layout.mcu[1])
    if framed is None:
        return "whole"
    last = layout.rows * columns
    blocks = _blocks(framed, columns, rows, layout.mcu)
    if blocks is None:
        return "whole"
    if not _all_gray(blocks[last + 1 :]):
        return "left over"
    if not _all_gray(blocks[last - 1 : last]):
        return "whole"
    longer = _blocks(_with_added(framed, [scan.end]), columns, rows, layout.mcu)
    return "whole" if longer is None or np.array_equal(longer[:last], blocks[:last]) else "missing"


def _of_intervals(data: bytes, layout: Layout, scan: Scan) -> Coverage:
    """Each interval in rows of its own that are at least two MCUs longer."""
    wide, high = layout.mcu
    total, interval = layout.columns * layout.rows, scan.interval
    count = -(-total // interval)
    lines = -(-(interval + 2) // (_LONGEST_SIDE // wide))
    columns = -(-(interval + 2) // lines)
    framed = _reframed(data, layout, columns * wide, count * lines * high, columns * lines)
    blocks = None if framed is None else _blocks(framed, columns, count * lines, layout.mcu)
    if framed is None or blocks is None:
        return _of_several_scans(data, layout)
    by_interval = blocks.reshape(count, columns * lines, *blocks.shape[1:])
    lengths = [interval] * (count - 1) + [total - interval * (count - 1)]
    if not all(_all_gray(row[length + 1 :]) for row, length in zip(by_interval, lengths, strict=True)):
        return "left over"
    if not any(_all_gray(row[length - 1 : length]) for row, length in zip(by_interval, lengths, strict=True)):
        return "whole"
    ends = [one.start() for one in RESTART.finditer(data, scan.begin, scan.end)][: count - 1]
    longer = _blocks(_with_added(framed, [*ends, scan.end]), columns, count * lines, layout.mcu)
    if longer is None:
        return "whole"
    again = longer.reshape(by_interval.shape)
    same = [np.array_equal(a[:n], b[:n]) for a, b, n in zip(by_interval, again, lengths, strict=True)]
    return "whole" if all(same) else "missing"


def _of_several_scans(data: bytes, layout: Layout) -> Coverage:
    extra = -(-_FIRST_BLOCKS // layout.columns) + 1
    scale = 2 if layout.width * layout.height > _LARGE else 1
    wide, high = layout.mcu[0] // scale, layout.mcu[1] // scale
    framed = _reframed(data, layout, layout.width, (layout.rows + extra) * layout.mcu[1])
    plain = None if framed is None else _decoded(framed, scale, colors=True)
    if framed is None or plain is None:
        return "whole"
    ends = [scan.end for scan in layout.scans]
    for scan in layout.scans:
        ends += [one.start() for one in RESTART.finditer(data, scan.begin, scan.end)]
    longer = _decoded(_with_added(framed, sorted(ends)), scale, colors=True)
    if longer is None:
        return "whole"
    mixed = 2 // scale  # rows and columns in which colors of fewer pixels are mixed with those beside them
    height = max(0, layout.height // scale - mixed)
    if not np.array_equal(plain[:height], longer[:height]):
        return "missing"
    whole = layout.width // layout.mcu[0]
    if not whole:
        return "whole"
    below = plain[layout.rows * high :, : whole * wide].reshape(extra, high, whole, wide, -1)
    inner = below[:, mixed : high - mixed, :, mixed : wide - mixed]
    gray = ((inner == 127) | (inner == 128)).all(axis=(1, 3, 4))
    gray.reshape(-1)[: _FIRST_BLOCKS if whole == layout.columns else whole] = True
    return "whole" if gray.all() else "left over"


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


def _blocks(data: bytes, columns: int, rows: int, mcu: tuple[int, int]) -> Levels | None:
    """uint8[rows * columns, pixels]: of each MCU in order what is decoded of it at an eighth of its size."""
    levels = _decoded(data, 8)
    if levels is None:
        return None
    wide, high = mcu[0] // 8, mcu[1] // 8
    if levels.shape[:2] != (rows * high, columns * wide):
        return None
    return levels.reshape(rows, high, columns, -1).swapaxes(1, 2).reshape(rows * columns, -1)


def _decoded(data: bytes, scale: int, *, colors: bool = False) -> Levels | None:
    """uint8[H, W, C] at a part of the size, brightness alone where the format allows it; None where it fails."""
    try:
        image = JpegImagePlugin.JpegImageFile(timed(data))
        image.draft(None if colors else "L", (max(1, image.width // scale), max(1, image.height // scale)))
        image.load()
    except Exception:  # the decoder's own verdict is on the file as it is; this one is of a changed copy
        return None
    levels: Levels = np.asarray(image)
    return levels if levels.ndim == 3 else levels[..., None]


def _all_gray(blocks: Levels) -> bool:
    """Whether these hold what the decoder writes where it has no data (127 in inverted colors)."""
    return bool(((blocks == 127) | (blocks == 128)).all())
