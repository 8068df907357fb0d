"""Two thousand odd image files: modes x formats x damages, each with its verdict.

    odd_files(2000) -> OddImage(name, data, the RGB pixels it must give, or the kinds of rejection it may meet)

PNG, BMP, GIF and TIFF are written byte for byte from arrays; JPEG, WebP and AVIF by their encoders, from arrays that
the decoded pixels are compared with. Orientation is applied with numpy.
"""

from __future__ import annotations

import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.odd_images import (
    BROKEN_EXIF,
    OddImage,
    Pixels,
    chunk,
    gray_rgb,
    on_white,
    png,
    png_modes,
    ramp,
    tiff_ranges,
)

SIZES = ((40, 60), (33, 47), (64, 88))
EXACT, LOSSY = 1.5, 40.0
BROKEN = "truncated|corrupt"
JUNK = bytes(np.random.default_rng(7).integers(0, 256, 3000, dtype=np.uint8))


@dataclass(frozen=True)
class Base:
    """A good file: its format, pixels [H, W, 3] and how far a lossy format may be from them."""

    name: str
    kind: str
    data: bytes
    pixels: Pixels
    tolerance: float = EXACT


def bmp(values: Pixels, bits: int, palette: Pixels | None = None, *, top_down: bool = False) -> bytes:
    """A BMP of palette indices [H, W] (1, 4, 8 bits) or colors [H, W, 3] (16: five bits each, 24, 32)."""
    height, width = values.shape[:2]
    if bits <= 8:
        single = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in single]
    elif bits == 16:
        five = (values >> 3).astype(np.uint16)
        rows = [row.astype("<u2").tobytes() for row in five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]]
    else:
        blue_first = values[..., ::-1]
        if bits == 32:
            blue_first = np.concatenate([blue_first, np.zeros((height, width, 1), int)], axis=2)
        rows = [row.astype(np.uint8).tobytes() for row in blue_first]
    lines = [row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1])]
    table = b"" if palette is None else b"".join(bytes([b, g, r, 0]) for r, g, b in palette.tolist())
    start, body = 14 + 40 + len(table), b"".join(lines)
    head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    info = struct.pack(
        "<IiiHHIIiiII", 40, width, -height if top_down else height, 1, bits, 0, len(body), 2835, 2835,
        0 if palette is None else len(palette), 0,
    )  # fmt: skip
    return head + info + table + body


def gif(frames: list[Pixels], palette: Pixels, clear: int | None = None) -> bytes:
    """A GIF of frames of indices [H, W]; codes of nine bits, the table cleared before it grows."""
    height, width = frames[0].shape
    found = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), palette.astype(np.uint8).tobytes()]
    for frame in frames:
        flags = 1 if clear is not None else 0
        found.append(b"\x21\xf9\x04" + struct.pack("<BHB", flags, 5, clear or 0) + b"\0")
        found.append(b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08")
        codes: list[int] = []
        for at, value in enumerate(frame.reshape(-1).tolist()):
            codes += [256, value] if at % 250 == 0 else [value]
        bits = (np.array([*codes, 257])[:, None] >> np.arange(9)) & 1
        packed = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
        found += [bytes([len(part)]) + part for at in range(0, len(packed), 255) if (part := packed[at : at + 255])]
        found.append(b"\0")
    return b"".join(found) + b"\x3b"


def tiff_rgb(values: Pixels, *, orientation: int = 1, order: str = "<", pages: int = 1, bits: int = 8) -> bytes:
    """A TIFF of colors [H, W, 3], the same on each page."""
    height, width = values.shape[:2]
    body = values.astype(np.uint8 if bits == 8 else f"{order}u2").tobytes()
    found = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body)) + body)
    for page in range(pages):
        directory = len(found)
        depth_at = directory + 2 + 10 * 12 + 4
        tags = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, depth_at), (259, 3, 1, 1), (262, 3, 1, 2),
            (273, 4, 1, 8), (274, 3, 1, orientation), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(body)),
        ]  # fmt: skip
        found += struct.pack(f"{order}H", len(tags))
        for tag, kind, count, value in tags:
            short = kind == 3 and count == 1
            found += struct.pack(f"{order}HHI", tag, kind, count)
            found += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
        last = page == pages - 1
        found += struct.pack(f"{order}I", 0 if last else depth_at + 6) + struct.pack(f"{order}3H", bits, bits, bits)
    return bytes(found)


def exif(orientation: int, order: str = "<") -> bytes:
    """EXIF data of one tag."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + head + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels as they are to be shown."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def encoded(values: Pixels, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """A file by Pillow's encoder."""
    file = io.BytesIO()
    image = Image.fromarray(values.astype(np.uint8))
    (image.convert(mode) if image.mode != mode else image).save(file, kind, **options)
    return file.getvalue()


def with_app1(jpeg: bytes, body: bytes) -> bytes:
    """A JPEG with one more application segment at its start."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def drawn_bases(size: tuple[int, int], seed: int) -> Iterator[Base]:
    """Good files written byte for byte."""
    at = f"{size[1]}x{size[0]}-{seed}"
    for interlaced in (False, True):
        for odd in png_modes([size], interlaced=interlaced):
            assert odd.pixels is not None
            yield Base(f"png-{odd.name}-{seed}{'-adam7' * interlaced}", "PNG", odd.data, odd.pixels)
    rgb, palette = ramp(size, 255, 3, seed), np.random.default_rng(seed).integers(0, 256, (256, 3))
    for name, extra in (
        ("gama", chunk(b"gAMA", struct.pack(">I", 100000))),
        ("iccp", chunk(b"iCCP", b"p\0\0" + zlib.compress(JUNK))),
        ("text", chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"t" * 2_000_000))),
    ):
        yield Base(f"png-{name}-{at}", "PNG", png(rgb, 2, 8, extra), rgb)
    for bits, top_down in itertools.product((1, 4, 8), (False, True)):
        indices = ramp(size, 2**bits - 1, seed=seed)
        colors = palette[: 2**bits]
        yield Base(f"bmp{bits}-{top_down}-{at}", "BMP", bmp(indices, bits, colors, top_down=top_down), colors[indices])
    for bits, top_down in itertools.product((24, 32), (False, True)):
        yield Base(f"bmp{bits}-{top_down}-{at}", "BMP", bmp(rgb, bits, top_down=top_down), rgb)
    five = rgb >> 3
    yield Base(f"bmp16-{at}", "BMP", bmp(rgb, 16), five * 255 / 31, 5.0)
    indices = ramp(size, 255, seed=seed)
    yield Base(f"gif-{at}", "GIF", gif([indices], palette), palette[indices])
    shown = on_white(palette[indices], (indices != indices[1, 1]).astype(float))
    yield Base(f"gif-clear-{at}", "GIF", gif([indices], palette, int(indices[1, 1])), shown)
    for order, pages, bits in itertools.product("<>", (1, 3), (8, 16)):
        values = ramp(size, 2**bits - 1, 3, seed)
        data = tiff_rgb(values, order=order, pages=pages, bits=bits)
        yield Base(f"tiff-rgb{bits}-{order}-{pages}-{at}", "TIFF", data, values * 255 / (2**bits - 1))


def encoded_bases(size: tuple[int, int], seed: int) -> Iterator[Base]:
    """Good files of lossy formats, and of those too long to write by hand."""
    at = f"{size[1]}x{size[0]}-{seed}"
    rgb, alpha = ramp(size, 255, 3, seed), ramp(size, 255, 0, seed + 1)
    gray = gray_rgb(rgb[..., 0])
    for name, options in (
        ("plain", {}),
        ("progressive", {"progressive": True}),
        ("optimized", {"optimize": True, "subsampling": 0}),
        ("restarts", {"restart_marker_rows": 1}),
        ("intervals", {"restart_marker_blocks": 3, "subsampling": 0}),
        ("progressive-intervals", {"progressive": True, "restart_marker_blocks": 3}),
    ):
        yield Base(f"jpeg-{name}-{at}", "JPEG", encoded(rgb, "JPEG", quality=95, **options), rgb, LOSSY)
        yield Base(f"jpeg-{name}-gray-{at}", "JPEG", encoded(gray, "JPEG", "L", quality=95, **options), gray, LOSSY)
        yield Base(f"jpeg-{name}-cmyk-{at}", "JPEG", encoded(rgb, "JPEG", "CMYK", quality=95, **options), rgb, LOSSY)
    clear = np.concatenate([rgb, alpha[..., None]], axis=2)
    shown = on_white(rgb, alpha / 255)
    yield Base(f"webp-lossless-{at}", "WEBP", encoded(rgb, "WEBP", lossless=True), rgb)
    yield Base(f"webp-clear-{at}", "WEBP", encoded(clear, "WEBP", "RGBA", lossless=True, exact=True), shown)
    yield Base(f"webp-lossy-{at}", "WEBP", encoded(rgb, "WEBP", quality=95), rgb, LOSSY)
    yield Base(f"avif-{at}", "AVIF", encoded(rgb, "AVIF", quality=95, subsampling="4:4:4"), rgb, LOSSY)
    yield Base(f"avif-clear-{at}", "AVIF", encoded(clear, "AVIF", "RGBA", quality=95), shown, LOSSY)


def kept(base: Base, name: str, data: bytes, pixels: Pixels | None = None) -> OddImage:
    """A file that is kept, whatever was done to it."""
    return OddImage(f"{base.name}-{name}", data, base.pixels if pixels is None else pixels, tolerance=base.tolerance)


def damages(base: Base) -> Iterator[OddImage]:
    """The file whole, with bytes around it, and cut or overwritten."""
    data, kind = base.data, base.kind
    yield kept(base, "whole", data)
    if kind != "AVIF":
        yield kept(base, "trailing", data + JUNK)
    if kind in ("JPEG", "PNG", "GIF", "WEBP"):
        yield kept(base, "newline", b"\r\n" + data)
        yield kept(base, "mark", b"\xef\xbb\xbf" + data)
    for share in (0.1, 0.4, 0.8):
        yield OddImage(f"{base.name}-cut-{share}", data[: int(len(data) * share)], rejection=f"{BROKEN}|not_an_image")
    yield OddImage(f"{base.name}-no-head", bytes(32) + data[32:], rejection="not_an_image")
    yield OddImage(f"{base.name}-text", JUNK[:5] + data, rejection="not_an_image")
    if kind == "JPEG":
        scan = data.index(b"\xff\xda") + 14
        for share in (0.3, 0.5, 0.7):
            cut = scan + int((len(data) - scan) * share)
            yield OddImage(f"{base.name}-closed-{share}", data[:cut].rstrip(b"\xff") + b"\xff\xd9", rejection=BROKEN)
    if kind == "PNG":
        at = data.index(b"IDAT")
        (length,) = struct.unpack_from(">I", data, at - 4)
        half = chunk(b"IDAT", data[at + 4 : at + 4 + length // 2]) + chunk(b"IEND", b"")
        yield OddImage(f"{base.name}-closed", data[: at - 4] + half, rejection=BROKEN)


def orientations(seed: int) -> Iterator[OddImage]:
    """All eight, in every format that carries them, and EXIF data that cannot be read."""
    rgb = ramp((40, 60), 255, 3, seed)
    for turn, order in itertools.product(range(1, 9), "<>"):
        shown, at = turned(rgb, turn), f"{turn}{order}-{seed}"
        made = (
            (f"png-turn{at}", png(rgb, 2, 8, chunk(b"eXIf", exif(turn, order)[6:])), EXACT),
            (f"jpeg-turn{at}", with_app1(encoded(rgb, "JPEG", quality=95, subsampling=0), exif(turn, order)), LOSSY),
            (f"webp-turn{at}", encoded(rgb, "WEBP", lossless=True, exif=exif(turn, order)), EXACT),
            (f"tiff-turn{at}", tiff_rgb(rgb, orientation=turn, order=order), EXACT),
            (f"avif-turn{at}", encoded(rgb, "AVIF", quality=95, subsampling="4:4:4", exif=exif(turn, order)), LOSSY),
        )
        for name, data, tolerance in made:
            yield OddImage(name, data, shown, tolerance=tolerance)
    for number, broken in enumerate(BROKEN_EXIF):
        yield OddImage(
            f"jpeg-exif{number}-{seed}",
            with_app1(encoded(rgb, "JPEG", quality=95, subsampling=0), broken),
            rgb,
            tolerance=LOSSY,
        )
        yield OddImage(f"webp-exif{number}-{seed}", encoded(rgb, "WEBP", lossless=True, exif=broken), rgb)
        yield OddImage(f"png-exif{number}-{seed}", png(rgb, 2, 8, chunk(b"eXIf", broken[6:])), rgb)


def sizes_and_strangers() -> Iterator[OddImage]:
    """Sizes past the limits, said by a header alone or true, and files that are no images."""
    good = png(ramp((40, 60), 255, 3), 2, 8)
    huge = good[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)) + good[33:]
    yield OddImage("png-huge", huge, rejection="too_many_pixels")
    wide = bytearray(bmp(ramp((40, 60), 255, 3), 24))
    struct.pack_into("<ii", wide, 18, 30000, 30000)
    yield OddImage("bmp-huge", bytes(wide), rejection="too_many_pixels")
    for height, width in ((1, 1), (1, 500), (500, 7), (7, 7)):
        yield OddImage(f"png-{height}x{width}", png(ramp((height, width), 255, 3), 2, 8), rejection="too_small")
    for height, width in ((8, 2689), (2689, 8), (9, 4000)):
        yield OddImage(f"png-{height}x{width}", png(ramp((height, width), 255), 0, 8), rejection="elongated")
    line = ramp((8, 2688), 255)
    yield OddImage("png-8x2688", png(line, 0, 8), gray_rgb(line))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", good)
    strangers = {
        "zip": packed.getvalue(), "json": b'{"error": 404}', "svg": b'<?xml version="1.0"?><svg width="9"/>',
        "pdf": b"%PDF-1.7 ...", "text": b"hello", "zeros": bytes(5000), "xml": b"<?xml version='1.0'?><Error/>",
        "jp2": encoded(ramp((40, 60), 255, 3), "JPEG2000"), "ico": encoded(ramp((40, 60), 255, 3), "ICO"),
        "ppm": encoded(ramp((40, 60), 255, 3), "PPM"), "mp4": b"\0\0\0\x20ftypisom" + JUNK, "junk": JUNK,
        "base64": b"data:image/png;base64,iVBORw0KGgo=", "lfs": b"version https://git-lfs.github.com/spec/v1\n",
    }  # fmt: skip
    yield from (OddImage(f"no-{name}", data, rejection="not_an_image") for name, data in strangers.items())
    yield OddImage("no-html", b"\n <!DOCTYPE html><html>", rejection="html")
    yield OddImage("no-bytes", b"", rejection="empty_body")


def all_files() -> Iterator[OddImage]:
    """Every case, some thousands."""
    yield from sizes_and_strangers()
    yield from tiff_ranges()
    for seed in (0, 1):
        yield from orientations(seed)
    for seed, size in enumerate(SIZES):
        for base in (*encoded_bases(size, seed), *drawn_bases(size, seed)):
            yield from damages(base)


def odd_files(count: int, seed: int = 0) -> list[OddImage]:
    """So many of them, drawn."""
    every = list(all_files())
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    return [every[at] for at in sorted(chosen.tolist())]
