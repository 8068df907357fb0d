"""Odd image files: kept with the right pixels or rejected by name, and the same pixels wherever an image comes in."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phisight.core.errors import UnreadableImageError
from phisight.data.build.build_dataset import build
from phisight.data.images.decode import ImageLimits, decode_rgb, load_image, prepare_image
from phisight.data.images.rejection import Rejection
from phisight.generate.requests import load_rgb
from tests.helpers.images import smooth_image
from tests.helpers.odd_images import BROKEN_EXIF, OddImage, odd_images

LIMITS = ImageLimits()
ODD = odd_images()


def stored_pixels(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(Image.open(io.BytesIO(prepare_image(data, LIMITS)[1])).convert("RGB"))


@pytest.mark.parametrize("odd", ODD, ids=[odd.name for odd in ODD])
def test_an_odd_image_is_kept_with_its_pixels_or_rejected_by_name(odd: OddImage, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(odd.data)
    if odd.pixels is None:
        with pytest.raises(Rejection) as rejection:
            prepare_image(odd.data, LIMITS)
        assert re.fullmatch(odd.rejection or "", rejection.value.kind)
        with pytest.raises(UnreadableImageError):
            load_rgb(path)
        return
    stored = stored_pixels(odd.data)
    assert np.abs(stored - odd.pixels).max() <= 1.5
    assert np.array_equal(stored, np.asarray(load_rgb(path))), "prediction sees what a build stores"


def encoded_ways() -> list[tuple[str, bytes]]:
    """Every mode in every format that the library writes, upright and turned, with sound and broken EXIF."""
    found = []
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"):
        image = (
            smooth_image(3).convert("L").convert("I").convert("I;16")
            if mode == "I;16"
            else smooth_image(3).convert(mode)
        )
        for kind in ("JPEG", "WEBP", "GIF", "BMP", "TIFF", "PNG"):
            for turn in (None, 3, 6, 7):
                exif = Image.Exif()
                if turn:
                    exif[0x0112] = turn
                file = io.BytesIO()
                try:
                    image.save(
                        file, kind, **({"exif": exif} if turn and kind in ("JPEG", "WEBP", "PNG", "TIFF") else {})
                    )
                except (OSError, ValueError, KeyError):
                    continue
                found.append((f"{kind}-{mode}-{turn}", file.getvalue()))
    for kind in ("JPEG", "WEBP", "PNG"):
        for at, exif_bytes in enumerate(BROKEN_EXIF):
            for options in ({}, {"dpi": (72, 72)}) if kind == "JPEG" else ({},):
                file = io.BytesIO()
                smooth_image(4).save(file, kind, exif=exif_bytes, **options)
                found.append((f"{kind}-exif-{at}-{len(options)}", file.getvalue()))
    return found


WAYS = encoded_ways()


@pytest.mark.parametrize("data", [data for _, data in WAYS], ids=[name for name, _ in WAYS])
def test_an_image_gives_the_same_pixels_wherever_it_comes_in(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    stored = stored_pixels(data)
    assert np.array_equal(stored, np.asarray(decode_rgb(data, LIMITS)))
    assert np.array_equal(stored, np.asarray(load_image(path)))
    assert np.array_equal(stored, np.asarray(load_rgb(path)))
    again = tmp_path / "again"
    again.write_bytes(prepare_image(data, LIMITS)[1])
    assert np.array_equal(stored, np.asarray(load_image(again))), "training sees what was stored"


def test_a_folder_of_odd_images_is_built(tmp_path: Path) -> None:
    """Kept and rejected add up; nothing ends the build."""
    source = tmp_path / "odd"
    for odd in ODD[::4]:
        (source / f"kind{len(odd.name) % 2}").mkdir(parents=True, exist_ok=True)
        (source / f"kind{len(odd.name) % 2}" / f"{odd.name}.png").write_bytes(odd.data)
    result = build(str(source), tmp_path / "ds")
    assert result.read == len(ODD[::4])
    assert result.kept + result.rejected.total() == result.read
    assert result.kept == sum(odd.pixels is not None for odd in ODD[::4])
