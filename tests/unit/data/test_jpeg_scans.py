"""JPEGs that end well but are not whole: told apart from good ones of every kind, with no false alarm."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from phisight.data.images.decode import ImageLimits, decode_rgb, prepare_image
from phisight.data.images.jpeg_scans import examine
from phisight.data.images.rejection import Rejection
from phisight.data.images.strip_metadata import strip_jpeg
from tests.helpers.images import encoded, smooth_image

END = b"\xff\xd9"
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimized": {"optimize": True, "quality": 40},
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "rows": {"restart_marker_rows": 1},
    "blocks": {"restart_marker_blocks": 7},
    "each": {"restart_marker_blocks": 1},
    "progressive": {"progressive": True},
    "progressive-rows": {"progressive": True, "restart_marker_rows": 1},
}


def photo(seed: int, size: tuple[int, int]) -> Image.Image:
    """With noise, as a camera gives."""
    smooth = np.asarray(smooth_image(seed, size)).astype(int)
    noise = np.random.default_rng(seed).integers(-12, 13, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def on_paper(seed: int, size: tuple[int, int], paper: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", size, paper)
    image.paste(photo(seed, (max(1, size[0] // 3), max(1, size[1] // 3))), (size[0] // 3, size[1] // 4))
    return image


DRAWN: dict[str, Callable[[int, tuple[int, int]], Image.Image]] = {
    "photo": photo,
    "white": lambda seed, size: on_paper(seed, size, (255, 255, 255)),
    "gray": lambda seed, size: on_paper(seed, size, (128, 128, 128)),
    "flat": lambda _seed, size: Image.new("RGB", size, (128, 128, 128)),
}


def options_for(mode: str, name: str) -> dict[str, Any]:
    """Subsampling is for colors alone."""
    return {option: value for option, value in OPTIONS[name].items() if mode == "RGB" or option != "subsampling"}


SIZES = ((8, 8), (17, 9), (16, 64), (33, 40), (100, 75), (301, 467))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("drawn", DRAWN)
def test_a_good_one_raises_no_alarm(drawn: str, options: str) -> None:
    for at, (size, mode) in enumerate(itertools.product(SIZES, ("RGB", "L", "CMYK"))):
        data = encoded(DRAWN[drawn](at, size).convert(mode), "JPEG", **options_for(mode, options))
        assert examine(strip_jpeg(data)).coverage == "whole", (size, mode)


@pytest.mark.parametrize("options", [name for name in OPTIONS if name not in ("rows", "blocks", "each")])
def test_the_small_image_is_the_one_that_the_decoder_gives(options: str) -> None:
    """Bit for bit: fingerprints stay what they were."""
    for part, size, mode in itertools.product((8, 4, 2), ((600, 449), (257, 310)), ("RGB", "L", "CMYK")):
        data = strip_jpeg(encoded(photo(part, size).convert(mode), "JPEG", **options_for(mode, options)))
        plain = Image.open(io.BytesIO(data))
        assert isinstance(plain, JpegImageFile)
        plain.draft(None, (size[0] // part, size[1] // part))
        found = examine(data, part).image
        if found is None:
            assert (part, options[:11]) == (8, "progressive") or options == "422"
        else:
            assert np.array_equal(np.asarray(plain), np.asarray(found))


def padded(data: bytes, stray: bytes) -> bytes:
    """Stray bytes before the end marker, as some cameras write."""
    return data[:-2] + stray + END


@pytest.mark.parametrize("options", OPTIONS)
def test_bytes_that_are_no_pixels_raise_no_alarm(options: str) -> None:
    data = encoded(photo(3, (120, 90)), "JPEG", **OPTIONS[options])
    for stray in (b"\0", b"\xaa\xbb", b"\xff", b"\xff\xff\xff"):
        assert examine(strip_jpeg(padded(data, stray))).coverage == "whole", stray


def scanned(data: bytes) -> tuple[int, int]:
    """Where the first scan begins and the last one ends."""
    return data.index(b"\xff\xda") + 2, len(data) - 2


def cut_at(share: float, fill: bytes = b"") -> Any:
    def damage(data: bytes) -> bytes:
        begin, end = scanned(data)
        return data[: begin + int((end - begin) * share)].rstrip(b"\xff") + fill + END

    return damage


def without_a_part(data: bytes) -> bytes:
    begin, end = scanned(data)
    middle, length = (begin + end) // 2, (end - begin) // 6
    return data[:middle].rstrip(b"\xff") + data[middle + length :]


def zeroed(data: bytes) -> bytes:
    begin, end = scanned(data)
    middle, length = (begin + end) // 2, (end - begin) // 6
    return data[:middle].rstrip(b"\xff") + bytes(length) + data[middle + length :]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("drawn", ["photo", "white"])
def test_one_that_stops_early_is_truncated(drawn: str, mode: str, options: str) -> None:
    data = encoded(DRAWN[drawn](5, (300, 220)).convert(mode), "JPEG", **options_for(mode, options))
    for share, fill in ((0.2, b""), (0.5, b"\xff"), (0.8, b"")):
        for decode in (prepare_image, decode_rgb):
            with pytest.raises(Rejection) as caught:
                decode(cut_at(share, fill)(data), ImageLimits())
            assert caught.value.kind == "truncated"


def said_of(data: bytes) -> str:
    try:
        return prepare_image(data, ImageLimits())[0].notes
    except Rejection as rejection:
        return rejection.kind


@pytest.mark.parametrize("options", [name for name in OPTIONS if not name.startswith("progressive")])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("damage", [without_a_part, zeroed])
def test_one_with_a_hole_is_rejected_or_found(damage: Any, mode: str, options: str) -> None:
    data = encoded(photo(5, (300, 220)).convert(mode), "JPEG", **options_for(mode, options))
    assert set(said_of(damage(data)).split(",")) & {"truncated", "corrupt", "damaged"}


def test_a_lost_restart_interval_is_truncated() -> None:
    data = encoded(photo(5, (300, 220)), "JPEG", restart_marker_rows=1)
    first, second = data.index(b"\xff\xd3"), data.index(b"\xff\xd4")
    for damaged in (
        data[:first] + data[second:],
        data[: first + 2] + data[second:],
        data[: second - 150] + data[second:],
    ):
        with pytest.raises(Rejection, match="not the data of all pixels"):
            prepare_image(damaged, ImageLimits())


def test_a_marker_inside_the_scan_ends_it() -> None:
    """A hole of any bytes holds markers: what is behind them is no scan to the decoder."""
    data = encoded(photo(5, (300, 220)), "JPEG", quality=90)
    begin, end = scanned(data)
    middle = (begin + end) // 2
    for marker in (b"\xff\xe5\0\x04ab", b"\xff\xd2", b"\xff\xfe\0\x02"):
        with pytest.raises(Rejection) as caught:
            prepare_image(data[:middle].rstrip(b"\xff") + marker + data[middle:], ImageLimits())
        assert caught.value.kind in ("truncated", "corrupt")
