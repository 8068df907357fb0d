"""Frame, scans and restart intervals of a JPEG, read from its markers (ITU-T T.81 annex B); nothing is decoded."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

PROGRESSIVE = 0xC2
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_END = re.compile(rb"\xff(?=[^\x00\xd0-\xd7\xff])")


@dataclass
class Scan:
    """Compressed data between two markers; ``header`` is the body of the segment before it."""

    begin: int
    end: int
    header: bytes
    interval: int
    interval_at: int
    """Where the interval stands in the file; 0 where it is not set."""
    has_pixels_in_zeros: bool
    """Whether zero bits stand for frequencies that are there: the first code of a Huffman table is all zeros."""


@dataclass
class Layout:
    """What the decoder is told of the file."""

    marker: int = 0
    frame_at: int = 0
    width: int = 0
    height: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    first_symbols: dict[int, int] = field(default_factory=dict)
    """What the code of zero bits stands for, by table (16 and more: those of frequencies)."""
    scans: list[Scan] = field(default_factory=list)

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height in pixels of a block of the interleaved scan; one component has no subsampling."""
        if len(self.sampling) == 1:
            return 8, 8
        return 8 * max(h for h, _ in self.sampling.values()), 8 * max(v for _, v in self.sampling.values())

    @property
    def has_square_sampling(self) -> bool:
        """Whether colors have as many pixels in width as in height: scaled down they need no interpolation then."""
        wide, high = self.mcu
        return len(self.sampling) == 1 or all(wide * v == high * h for h, v in self.sampling.values())

    @property
    def columns(self) -> int:
        """MCUs in a row."""
        return -(-self.width // self.mcu[0])

    @property
    def rows(self) -> int:
        """Rows of MCUs."""
        return -(-self.height // self.mcu[1])

    def blocks(self, scan: Scan) -> int:
        """MCUs of a scan: of one component alone its blocks, without the padding of the interleaved scan."""
        ids = scan.header[1 : 1 + 2 * scan.header[0] : 2]
        if len(ids) > 1 or len(self.sampling) == 1:
            return self.columns * self.rows
        most_h, most_v = (max(one[axis] for one in self.sampling.values()) for axis in (0, 1))
        h, v = self.sampling.get(ids[0], (most_h, most_v))
        return -(-self.width * h // (8 * most_h)) * -(-self.height * v // (8 * most_v))


def layout_of(data: bytes) -> Layout | None:
    """Frame and scans; None where the structure does not hold."""
    found, at, interval, interval_at = Layout(), 2, 0, 0
    try:
        while at + 4 <= len(data):
            marker = data[at + 1]
            if data[at] != 0xFF or marker == 0xD9:
                break
            (length,) = struct.unpack_from(">H", data, at + 2)
            body = data[at + 4 : at + 2 + length]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                found.marker, found.frame_at = marker, at
                found.height, found.width = struct.unpack_from(">HH", body, 1)
                found.sampling = {
                    body[place]: (body[place + 1] >> 4, body[place + 1] & 15) for place in range(6, 6 + 3 * body[5], 3)
                }
            elif marker == 0xC4:
                found.first_symbols |= _first_symbols(body)
            elif marker == 0xDD:
                interval, interval_at = struct.unpack_from(">H", body)[0], at + 4
            at += 2 + length
            if marker == 0xDA:
                end = _END.search(data, at)
                if end is None:
                    return None
                in_zeros = _has_pixels_in_zeros(found, body)
                found.scans.append(Scan(at, before_fill(data, end.start()), body, interval, interval_at, in_zeros))
                at = end.start()
    except (IndexError, struct.error):
        return None
    return found if found.scans and found.marker else None


def before_fill(data: bytes, at: int) -> int:
    """Where the fill bytes (0xFF) begin that may stand before the marker at ``at``."""
    while data[at - 1] == 0xFF:
        at -= 1
    return at


def _first_symbols(body: bytes) -> dict[int, int]:
    """The first symbol of each table of a DHT segment."""
    found, at = {}, 0
    while at + 17 < len(body):
        found[body[at]] = body[at + 17]
        at += 17 + sum(body[at + 1 : at + 17])
    return found


def _has_pixels_in_zeros(layout: Layout, header: bytes) -> bool:
    count = header[0]
    if layout.marker == PROGRESSIVE and header[1 + 2 * count] == 0:
        return False  # of mean brightness alone: zeros say that it stays
    tables = [16 + (one & 15) for one in header[2 : 2 + 2 * count : 2]]
    return any(layout.first_symbols.get(table, 0) & 15 for table in tables)
