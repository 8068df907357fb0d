"""Image files of every mode, depth and damage, written without an image library, each with the pixels it must give.

    odd_images()  -> OddImage(name, data, expected RGB pixels, or the kind of rejection)

PNG and TIFF are written here byte for byte from arrays: what is expected does not come from the decoder under test.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

Pixels = np.ndarray
WHITE = 255


@dataclass(frozen=True)
class OddImage:
    """A file; ``pixels`` uint8[H, W, 3] it must give, or ``rejection`` it must meet."""

    name: str
    data: bytes
    pixels: Pixels | None = None
    rejection: str | None = None
    """Kinds, as a regular expression."""
    tolerance: float = 1.5
    """Largest difference of a level from ``pixels``."""


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, and steps between rows and columns, of each pass of an interlaced PNG."""


def png(
    values: Pixels, color: int, depth: int, before: bytes = b"", after: bytes = b"", *, interlaced: bool = False
) -> bytes:
    """A PNG of int values [H, W] or [H, W, C]; ``before`` and ``after`` are chunks around the pixels."""
    height, width = values.shape[:2]
    passes = [values[top::down, left::right] for top, left, down, right in ADAM7] if interlaced else [values]
    lines = [line for part in passes if part.size for line in _lines(part, depth)]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", body) + after + chunk(b"IEND", b"")


_png = png


def _lines(values: Pixels, depth: int) -> list[bytes]:
    """Packed samples of each row."""
    rows = values.reshape(len(values), -1)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in rows]
    bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def tiff(values: Pixels, bits: int, sample_format: int) -> bytes:
    """A gray little-endian TIFF of one strip; ``sample_format`` 1 unsigned, 2 signed, 3 float."""
    height, width = values.shape
    kinds = {(8, 1): "<u1", (16, 1): "<u2", (16, 2): "<i2", (32, 1): "<u4", (32, 2): "<i4", (32, 3): "<f4"}
    body = values.astype(kinds[bits, sample_format]).tobytes()
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
        (278, 4, height), (279, 4, len(body)), (339, 3, sample_format),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


def on_white(rgb: Pixels, alpha: Pixels) -> Pixels:
    """Pixels over white; alpha float[H, W] in [0, 1]."""
    return np.asarray(rgb * alpha[..., None] + WHITE * (1 - alpha[..., None]))


def gray_rgb(levels: Pixels) -> Pixels:
    """Gray levels [H, W] as RGB."""
    return np.repeat(levels[..., None], 3, axis=2)


def ramp(size: tuple[int, int], top: int, channels: int = 0, seed: int = 0) -> Pixels:
    """Values from 0 to ``top`` that vary smoothly, with both ends present."""
    height, width = size
    shape = (height, width, channels) if channels else (height, width)
    draw = np.random.default_rng(seed)
    slope = np.linspace(0, 1, width)[None, :] * 0.6 + np.linspace(0, 1, height)[:, None] * 0.4
    values = slope[..., None] * draw.uniform(0.5, 1, channels) if channels else slope
    values = np.clip(values + draw.normal(0, 0.02, shape), 0, 1) * top
    found = np.rint(values).astype(np.int64)
    found[0, 0], found[-1, -1] = 0, top
    return found


SIZES = ((40, 60), (300, 280))
"""Small ones, and ones whose short side takes the way of large images."""


def png_modes(sizes: Sequence[tuple[int, int]] = SIZES, *, interlaced: bool = False) -> Iterator[OddImage]:
    """Every color type and depth of the PNG standard, with and without transparency."""
    png = partial(_png, interlaced=interlaced)
    for size in sizes:
        at = f"{size[1]}x{size[0]}"
        for depth in (1, 2, 4, 8, 16):
            top = 2**depth - 1
            levels = ramp(size, top)
            rgb = gray_rgb(levels * 255 / top)
            yield OddImage(f"gray{depth}-{at}", png(levels, 0, depth), rgb)
            there, absent = (
                int(levels[1, 1]),
                None if len(np.unique(levels)) > top else int(np.setdiff1d(np.arange(top + 1), levels)[0]),
            )
            for name, level in (("there", there), ("absent", absent)):
                if level is not None:
                    clear = png(levels, 0, depth, chunk(b"tRNS", struct.pack(">H", level)))
                    yield OddImage(
                        f"gray{depth}-trns-{name}-{at}", clear, on_white(rgb, (levels != level).astype(float))
                    )
        for depth in (1, 2, 4, 8):
            indices = ramp(size, 2**depth - 1, seed=depth)
            palette = np.random.default_rng(depth).integers(0, 256, (2**depth, 3))
            plte = chunk(b"PLTE", palette.astype(np.uint8).tobytes())
            yield OddImage(f"palette{depth}-{at}", png(indices, 3, depth, plte), palette[indices])
            alphas = np.random.default_rng(depth + 9).integers(0, 256, 2**depth)
            trns = chunk(b"tRNS", alphas.astype(np.uint8).tobytes())
            clear_pixels = on_white(palette[indices], alphas[indices] / 255)
            yield OddImage(f"palette{depth}-trns-{at}", png(indices, 3, depth, plte + trns), clear_pixels)
        for depth in (8, 16):
            top = 2**depth - 1
            rgb = ramp(size, top, 3)
            yield OddImage(f"rgb{depth}-{at}", png(rgb, 2, depth), rgb * 255 / top)
            level = rgb[2, 2]
            trns = chunk(b"tRNS", struct.pack(">HHH", *level))
            shift = depth - 8  # the decoder hands on the high bytes of 16-bit colors
            shown = ((rgb >> shift) != (level >> shift)).any(axis=2).astype(float)
            yield OddImage(f"rgb{depth}-trns-{at}", png(rgb, 2, depth, trns), on_white(rgb * 255 / top, shown))
            both = ramp(size, top, 2)
            yield OddImage(
                f"la{depth}-{at}", png(both, 4, depth), on_white(gray_rgb(both[..., 0] * 255 / top), both[..., 1] / top)
            )
            all_four = ramp(size, top, 4)
            yield OddImage(
                f"rgba{depth}-{at}",
                png(all_four, 6, depth),
                on_white(all_four[..., :3] * 255 / top, all_four[..., 3] / top),
            )


def tiff_ranges() -> Iterator[OddImage]:
    """Gray TIFFs of more than 8 bits: scaled by the range they have, or rejected by name."""
    size = SIZES[0]
    levels8, levels16 = ramp(size, 255), ramp(size, 65535)
    yield OddImage("tiff-u8", tiff(levels8, 8, 1), gray_rgb(levels8))
    yield OddImage("tiff-u16", tiff(levels16, 16, 1), gray_rgb(levels16 * 255 / 65535))
    yield OddImage("tiff-i32-255", tiff(levels8, 32, 2), gray_rgb(levels8))
    yield OddImage("tiff-i32-65535", tiff(levels16, 32, 2), gray_rgb(levels16 * 255 / 65535))
    yield OddImage("tiff-i32-large", tiff(ramp(size, 2**31 - 1), 32, 2), rejection="value_range")
    yield OddImage("tiff-i32-negative", tiff(levels8 - 20, 32, 2), rejection="value_range")
    yield OddImage("tiff-f32-unit", tiff(levels8 / 255, 32, 3), gray_rgb(levels8))
    yield OddImage("tiff-f32-255", tiff(levels8.astype(float), 32, 3), gray_rgb(levels8))
    yield OddImage("tiff-f32-large", tiff(levels16.astype(float), 32, 3), rejection="value_range")
    nans = levels8 / 255
    nans[3, 3] = np.nan
    yield OddImage("tiff-f32-nan", tiff(nans, 32, 3), rejection="value_range")


BROKEN_EXIF = (
    b"Exif\0\0\x12\x34junk",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\0" * 9,
)


def png_metadata() -> Iterator[OddImage]:
    """Good pixels beside metadata that no decoder should stumble over."""
    rgb = ramp(SIZES[0], 255, 3)
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"p" * 2_000_000))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"t" * 2_000_000))
    international = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 2_000_000))
    broken_text = chunk(b"zTXt", b"Comment\0\0not compressed")
    for name, extra in (("iccp", profile), ("ztxt", text), ("itxt", international), ("broken-ztxt", broken_text)):
        yield OddImage(f"png-{name}", png(rgb, 2, 8, extra), rgb)
        if name != "iccp":
            yield OddImage(f"png-{name}-after", png(rgb, 2, 8, after=extra), rgb)
    for at, exif in enumerate(BROKEN_EXIF):
        yield OddImage(f"png-exif-{at}", png(rgb, 2, 8, chunk(b"eXIf", exif[6:])), rgb)


def png_damage() -> Iterator[OddImage]:
    """Files that are not whole."""
    good = png(ramp(SIZES[0], 255, 3), 2, 8)
    for name, share in itertools.product(("cut",), (0.3, 0.6, 0.95)):
        yield OddImage(f"png-{name}-{share}", good[: int(len(good) * share)], rejection="truncated")
    idat = good.index(b"IDAT")
    flipped = bytearray(good)
    flipped[idat + 60] ^= 0xFF
    yield OddImage("png-flipped", bytes(flipped), rejection="corrupt|truncated")
    yield OddImage("png-no-pixels", good[: idat - 4] + chunk(b"IEND", b""), rejection="corrupt|truncated")
    yield OddImage("png-flat", png(ramp((9, 4000), 255, 3), 2, 8), rejection="elongated")


def odd_images() -> list[OddImage]:
    """All of them."""
    return [*png_modes(), *tiff_ranges(), *png_metadata(), *png_damage()]
