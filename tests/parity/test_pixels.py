"""Images to pixel_values: sizes, tokens, scaled bytes and tiles exactly; the thumbnail as close as CPUs agree."""

import functools
import hashlib
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from phisight.core.errors import ElongatedImageError
from phisight.core.geometry import hd_grid, image_tokens
from phisight.model import Phi3VImageProcessor
from phisight.model.image_processing import scaled_and_padded
from tests.helpers import official

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)

PIXELS = 2e-5
ENTRIES = official.entries("preprocess")


@functools.cache
def stored() -> dict[str, Tensor]:
    """Samples of the recorded pixels."""
    return load_file(official.REFERENCE / "preprocess.safetensors")


@functools.cache
def sizes() -> dict[str, list[Any]]:
    """The recorded table of sizes."""
    if not official.available():
        return {"rows": [], "errors": []}
    found: dict[str, list[Any]] = json.loads((official.REFERENCE / "hd_sizes.json").read_text(encoding="utf-8"))
    return found


def sha256(array: Any) -> str:
    """Hash of an array's bytes in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("about", official.entries("images"), ids=lambda about: about["file"].split("/")[-1])
def test_images_decode_to_the_recorded_pixels(about: dict[str, Any]) -> None:
    if about["format"] == "JPEG" and not official.decodes_the_same(about["file"]):
        pytest.skip("this machine's JPEG decoder gives other pixels")
    assert official.decodes_the_same(about["file"])


@pytest.mark.parametrize("about", ENTRIES, ids=lambda about: about["id"])
def test_pixel_values(about: dict[str, Any]) -> None:
    exact = official.decodes_the_same(about["image"])
    limit = PIXELS if exact else 0.1
    image = official.image(about["image"])
    output = Phi3VImageProcessor(num_crops=about["num_crops"])(image)
    pixels, used = output["pixel_values"], about["crops_used"]

    assert list(pixels.shape) == [1, *about["pixel_values_shape"]]
    assert pixels.dtype == torch.float32
    assert output["image_sizes"].tolist() == [about["image_size"]]
    assert output["image_sizes"].dtype == torch.int64
    assert output["num_img_tokens"] == [about["num_img_tokens"]]
    assert not pixels[0, used:].any(), "crops that are not used are zero"

    grid = hd_grid(*image.size, about["num_crops"])
    scaled = scaled_and_padded(image.convert("RGB"), grid)
    if exact:
        assert sha256(scaled) == about["hd_uint8_sha256"]
        assert sha256(pixels[0, 1:used].numpy()) == about["sub_crops_sha256"]
        corners = [scaled[row, column].tolist() for row in (0, -1) for column in (0, -1)]
        assert corners == about["hd_corner_pixels"]
    name, image = about["id"], pixels[0, :used]
    blocks = torch.nn.functional.avg_pool2d(image, 56)  # summed as the recorded means were
    assert (stored()[f"{name}/lattice"] - image[:, :, 5::37, 11::41]).abs().max() <= limit
    assert (stored()[f"{name}/global_lattice"] - image[0, :, ::16, ::16]).abs().max() <= limit
    assert (stored()[f"{name}/block_mean"] - blocks).abs().max() <= limit
    assert image.double().sum().item() == pytest.approx(about["sum"], abs=limit * image.numel())
    assert image.double().abs().sum().item() == pytest.approx(about["abs_sum"], abs=limit * image.numel())


def test_several_images() -> None:
    about = official.manifest()["preprocess_multi"]
    output = Phi3VImageProcessor(num_crops=about["num_crops"])([official.image(file) for file in about["images"]])
    assert list(output["pixel_values"].shape) == about["pixel_values_shape"]
    assert output["image_sizes"].tolist() == about["image_sizes"]
    assert str(output["image_sizes"].dtype) == about["image_sizes_dtype"]
    assert output["num_img_tokens"] == about["num_img_tokens"]


def test_sizes_and_tokens() -> None:
    wrong = []
    for width, height, crops, padded_width, padded_height, tokens, note in sizes()["rows"]:
        grid = hd_grid(width, height, crops)
        found = (grid.width, grid.height, image_tokens(width, height, crops))
        if found != (padded_width, padded_height, tokens):
            wrong.append((width, height, crops, note, found))
    assert not wrong
    assert len(sizes()["rows"]) == 360


@pytest.mark.parametrize("row", sizes()["errors"], ids=lambda row: "x".join(map(str, row[:3])))
def test_sizes_that_fail(row: list[Any]) -> None:
    width, height, crops = row[:3]
    with pytest.raises(ElongatedImageError, match=f"{width} x {height} pixels .* {crops} crops"):
        image_tokens(width, height, crops)
    with pytest.raises(ElongatedImageError):
        Phi3VImageProcessor(num_crops=crops)(Image.new("RGB", (width, height)))


def test_the_longest_image_that_passes() -> None:
    output = Phi3VImageProcessor(num_crops=16)(Image.new("RGB", (5376, 1)))
    assert list(output["pixel_values"].shape[1:]) == [17, 3, 336, 336]
