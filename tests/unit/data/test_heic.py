"""HEIC as phones write it: read with the extra, upright, and named where the extra is not installed.

The files were written by pillow-heif 1.8 (quality 90, no subsampling) from the arrays below; it is not needed here.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from phisight.data.build.build_dataset import build
from phisight.data.images.decode import ImageLimits, decode_rgb, load_image, prepare_image
from phisight.data.images.rejection import Rejection
from phisight.generate import load_rgb
from tests.helpers.images import encoded, smooth_image
from tests.helpers.odd_files import turned
from tests.helpers.odd_images import on_white, ramp

PHOTOS = Path(__file__).parents[2] / "golden" / "heic"
RGB = ramp((48, 64), 255, 3, seed=5)
ALPHA = ramp((48, 64), 255, 0, seed=6)
EXPECTED = {
    "plain": (RGB, ""),
    "turned": (turned(RGB, 6), ""),
    "clear": (on_white(RGB, ALPHA / 255), "alpha"),
    "two": (RGB, "animated"),
}


def test_without_the_extra_the_line_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(Rejection, match=r"pip install 'phisight\[heif\]'") as rejected:
        prepare_image((PHOTOS / "plain.heic").read_bytes(), ImageLimits())
    assert rejected.value.kind == "no_decoder"
    folder = tmp_path / "shop" / "hats"
    folder.mkdir(parents=True)
    (folder / "a.heic").write_bytes((PHOTOS / "plain.heic").read_bytes())
    (folder / "b.jpg").write_bytes(encoded(smooth_image(1)))
    result = build(str(folder.parent), tmp_path / "ds")
    assert (result.read, result.kept, dict(result.rejected)) == (2, 1, {"no_decoder": 1})


@pytest.mark.parametrize("name", EXPECTED)
def test_a_photo_of_a_phone_is_read_upright(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pi_heif", reason="the extra heif is not installed")
    pixels, note = EXPECTED[name]
    data = (PHOTOS / f"{name}.heic").read_bytes()
    stored, kept = prepare_image(data, ImageLimits())
    assert (stored.height, stored.width) == pixels.shape[:2]
    assert stored.notes.split(",") == sorted(filter(None, ["converted", note]))
    (tmp_path / "stored").write_bytes(kept)
    found = np.asarray(load_image(tmp_path / "stored"))
    assert np.abs(found - pixels).max() < 40
    assert np.array_equal(found, np.asarray(decode_rgb(data, ImageLimits())))
    assert np.array_equal(found, np.asarray(load_rgb(PHOTOS / f"{name}.heic")))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_half_a_photo_is_named(share: float) -> None:
    pytest.importorskip("pi_heif", reason="the extra heif is not installed")
    data = (PHOTOS / "plain.heic").read_bytes()
    with pytest.raises(Rejection) as rejected:
        prepare_image(data[: int(len(data) * share)], ImageLimits())
    assert rejected.value.kind in ("truncated", "corrupt")
