"""Images: pixels are kept, metadata is not, and what is broken or hostile is rejected before it costs anything."""

import contextlib
import io
import struct
import threading
import tracemalloc
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from phisight.core.errors import MissingImageError, UnreadableImageError
from phisight.data.images.decode import ImageLimits, load_image, prepare_image
from phisight.data.images.phash import as_arrays, fingerprint, near_duplicates, perceptual_hash
from phisight.data.images.rejection import KINDS, NOTES, Rejection, StoredImage
from phisight.data.images.strip_metadata import strip_jpeg, strip_png, strip_webp
from tests.helpers.image_server import png_bomb
from tests.helpers.images import encoded, smooth_image

LIMITS = ImageLimits()
SECRET = b"taken at home, 52.5200 N 13.4050 E"


def take(data: bytes, limits: ImageLimits = LIMITS) -> tuple[StoredImage, bytes]:
    return prepare_image(data, limits)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def exif(orientation: int | None = None) -> Image.Exif:
    found = Image.Exif()
    found[0x010E] = SECRET.decode()  # ImageDescription
    found.get_ifd(0x8825)[1] = "N"  # GPS
    if orientation:
        found[0x0112] = orientation
    return found


def with_metadata(kind: str) -> bytes:
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", SECRET.decode())
        info.add_itxt("XML:com.adobe.xmp", f"<x>{SECRET.decode()}</x>")
        return encoded(smooth_image(1), "PNG", pnginfo=info, exif=exif())
    xmp = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
    if kind == "JPEG":
        return encoded(smooth_image(1), "JPEG", exif=exif(), xmp=xmp, comment=SECRET, icc_profile=SECRET * 3)
    return encoded(smooth_image(1), "WEBP", exif=exif(), xmp=xmp, icc_profile=SECRET * 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_cut_out_and_pixels_are_not_touched(kind: str) -> None:
    original = with_metadata(kind)
    assert SECRET in original
    stored, data = take(original)
    assert SECRET not in data
    assert b"Exif" not in data
    assert stored.format == kind.lower()
    assert np.array_equal(pixels(data), pixels(original))
    assert len(data) < len(original)
    assert not Image.open(io.BytesIO(data)).getexif()
    assert take(data)[1] == data, "what is stored once is stored the same again"


def test_compressed_pixels_are_copied_byte_for_byte() -> None:
    plain = encoded(smooth_image(1), "JPEG", quality=83)
    assert take(encoded(smooth_image(1), "JPEG", quality=83, exif=exif(), comment=SECRET))[1] == plain


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}])
def test_every_kind_of_jpeg_survives(options: dict) -> None:
    original = encoded(smooth_image(3), "JPEG", **options)
    assert np.array_equal(pixels(strip_jpeg(original)), pixels(original))


def test_a_second_image_behind_the_first_is_cut_off() -> None:
    original = encoded(smooth_image(1)) + encoded(smooth_image(2), exif=exif())
    stored, data = take(original)
    assert data == encoded(smooth_image(1))
    assert "trailing" in stored.notes


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied(orientation: int, kind: str) -> None:
    stored, data = take(encoded(smooth_image(1, (90, 40)), kind, exif=exif(orientation)))
    turned = orientation >= 5
    assert (stored.width, stored.height) == ((40, 90) if turned else (90, 40))
    assert "oriented" in stored.notes
    assert SECRET not in data
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    expected = np.asarray(smooth_image(1, (90, 40)).transpose(transposed[orientation]), dtype=float)
    assert np.abs(pixels(data) - expected).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_transparency_is_put_on_white(kind: str) -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    stored, data = take(encoded(image, kind, lossless=True) if kind == "WEBP" else encoded(image, kind))
    found = pixels(data)
    assert tuple(found[32, 60]) == (255, 255, 255)
    assert tuple(found[32, 4]) == (255, 0, 0)
    assert "alpha" in stored.notes
    assert stored.format == "png"


def test_modes_of_all_kinds_become_plain_images() -> None:
    grey16 = Image.fromarray((np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64))
    cases = {
        "cmyk": encoded(smooth_image(1).convert("CMYK"), "JPEG"),
        "palette": encoded(smooth_image(1).quantize(16), "PNG"),
        "16bit": encoded(grey16, "PNG"),
        "animated": encoded(smooth_image(1), "GIF", save_all=True, append_images=[smooth_image(2)]),
        "one_colour": encoded(Image.new("RGB", (50, 50), "red"), "PNG"),
        "tiny": encoded(smooth_image(1, (20, 20))),
        "converted": encoded(smooth_image(1), "BMP"),
    }
    for note, data in cases.items():
        stored, kept = take(data)
        assert note in stored.notes.split(","), note
        assert note in NOTES
        assert Image.open(io.BytesIO(kept)).mode in ("L", "RGB", "P")
    assert pixels(take(cases["16bit"])[1]).max() > 250, "16 bits are scaled, not clipped"
    assert np.abs(pixels(take(cases["animated"])[1]) - np.asarray(smooth_image(1), dtype=float)).mean() < 12


def test_an_animated_webp_and_png_keep_their_first_frame() -> None:
    for kind in ("WEBP", "PNG"):
        data = encoded(smooth_image(1), kind, save_all=True, append_images=[smooth_image(2)], duration=100)
        stored, kept = take(data)
        assert "animated" in stored.notes
        assert getattr(Image.open(io.BytesIO(kept)), "n_frames", 1) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_half_a_image_is_refused(kind: str, share: float) -> None:
    data = encoded(smooth_image(7, (200, 200)), kind)
    with pytest.raises(Rejection) as caught:
        take(data[: int(len(data) * share)])
    assert caught.value.kind in ("truncated", "corrupt")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty_body"),
        (b"  <!DOCTYPE html><html>", "html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"%PDF-1.7", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not_an_image"),
        (encoded(smooth_image(1), "ICO"), "not_an_image"),
        (encoded(smooth_image(1), "PPM"), "not_an_image"),
        (encoded(smooth_image(1, (300, 4))), "too_small"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "corrupt"),
        (b"II*\0" + b"\xff" * 100, "corrupt"),
    ],
)
def test_what_is_no_image(data: bytes, kind: str) -> None:
    with pytest.raises(Rejection) as caught:
        take(data)
    assert caught.value.kind == kind
    assert kind in KINDS


def test_a_bomb_costs_no_memory() -> None:
    bomb = png_bomb()
    tracemalloc.start()
    try:
        with pytest.raises(Rejection) as caught:
            take(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.kind == "too_many_pixels"
    assert "20000 x 20000" in caught.value.reason
    assert peak < 5_000_000


def test_huge_announced_sizes_are_refused_in_every_format() -> None:
    png = bytearray(encoded(smooth_image(1), "PNG"))
    png[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    gif = bytearray(encoded(smooth_image(1), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = bytearray(encoded(smooth_image(1), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    for data in (png, gif, bmp):
        with pytest.raises(Rejection) as caught:
            take(bytes(data))
        assert caught.value.kind in ("too_many_pixels", "corrupt")


def test_random_damage_never_raises_anything_else() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        data = encoded(smooth_image(5), kind)
        for _ in range(60):
            damaged = bytearray(data)
            for at in rng.integers(0, len(data), 8):
                damaged[at] = rng.integers(0, 256)
            with contextlib.suppress(Rejection):
                take(bytes(damaged))


@pytest.mark.parametrize("strip", [strip_jpeg, strip_png, strip_webp])
def test_stripping_says_no_to_what_has_no_structure(strip: object) -> None:
    assert callable(strip)
    for data in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe1\0\x04",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"RIFF\0\0\0\0WEBP" + b"\0" * 8,
    ):
        with pytest.raises(ValueError, match=r"."):
            strip(data)


def test_loading_stored_images(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(smooth_image(1)))
    (tmp_path / "half.jpg").write_bytes(encoded(smooth_image(1))[:-500])
    assert load_image(tmp_path / "a.jpg").size == (96, 64)
    with pytest.raises(MissingImageError, match="no image"):
        load_image(tmp_path / "b.jpg")
    with pytest.raises(UnreadableImageError, match="only a part"):
        load_image(tmp_path / "half.jpg")
    with pytest.raises(UnreadableImageError, match="more than the 10 allowed"):
        load_image(tmp_path / "a.jpg", ImageLimits(max_bytes=10))


def test_the_perceptual_hash_is_imagehash_s_bit_for_bit() -> None:
    for seed in range(25):
        for image in (smooth_image(seed), smooth_image(seed, (301, 207)).convert("L")):
            assert perceptual_hash(image) == str(imagehash.phash(image))


def test_near_duplicates_are_found_and_others_are_not() -> None:
    images = [smooth_image(seed, (240, 200)) for seed in range(30)]
    copies = [
        Image.open(io.BytesIO(encoded(images[0], quality=40))),
        images[1].resize((120, 100), Image.Resampling.LANCZOS),
        images[2].point(lambda value: min(255, int(value * 1.02))),
    ]
    red, blue = Image.new("RGB", (240, 200), "white"), Image.new("RGB", (240, 200), "white")
    red.paste((220, 30, 30), (60, 40, 180, 160))
    blue.paste((60, 60, 220), (60, 40, 180, 160))
    prints = [fingerprint(image) for image in [*images, *copies, red, blue]]
    pairs = set(near_duplicates(*as_arrays([p for p, _ in prints], [c for _, c in prints])))
    assert pairs == {(0, 30), (1, 31), (2, 32)}


def test_decoding_in_threads_gives_the_same(tmp_path: Path) -> None:
    data = [with_metadata(kind) for kind in ("JPEG", "PNG", "WEBP")] * 5
    expected = [take(one)[0] for one in data]
    found: list[StoredImage | None] = [None] * len(data)

    def run(at: int) -> None:
        found[at] = take(data[at])[0]

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
