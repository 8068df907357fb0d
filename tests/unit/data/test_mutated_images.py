"""Image files with bytes changed, cut, moved or joined: pixels, or one of the errors of an image; never another one."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from phisight.core.errors import ImageError
from phisight.data.images.decode import ImageLimits, decode_bytes, image_size, prepare_image
from phisight.data.images.rejection import Rejection
from tests.helpers.command_line import ROOT
from tests.helpers.images import encoded, smooth_image

READERS: tuple[Callable[[bytes], Any], ...] = (
    lambda data: image_size(data, "it"),
    lambda data: decode_bytes(data, "it"),
    lambda data: prepare_image(data, ImageLimits()),
)


def outcomes(data: bytes) -> list[str]:
    found = []
    for read in READERS:
        try:
            read(data)
            found.append("read")
        except (ImageError, Rejection):
            found.append("refused")
    return found


@pytest.mark.parametrize("seed", range(4))
def test_no_mutated_file_raises_anything_else(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pytest.importorskip("httpx", reason="what benchmarks/serve_fuzz.py asks with")
    from serve_fuzz import mutated, whole_images

    wholes, draw = whole_images(smooth_image(1)), random.Random(f"images {seed}")
    seen: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decoders, on damaged files
        for _ in range(200):
            seen.update(outcomes(mutated(wholes, draw)))
    assert min(seen["read"], seen["refused"]) > 50, seen


def palette_without_its_colors() -> bytes:
    return encoded(smooth_image(1).convert("P"), "PNG").replace(b"PLTE", b"pLTE", 1)


def scan_of_too_many_parts() -> bytes:
    data = bytearray(encoded(smooth_image(1)))
    data[data.index(b"\xff\xda") + 4] = 200
    return bytes(data)


@pytest.mark.parametrize("make", [palette_without_its_colors, scan_of_too_many_parts])
def test_files_that_decoders_and_our_own_checks_stumbled_over(make: Callable[[], bytes]) -> None:
    assert outcomes(make())[1:] == ["refused", "refused"]
