"""The thumbnail, summed in whole numbers, equals torch's bicubic interpolation."""

import numpy as np
import pytest
import torch

from phisight.model.image_processing import bicubic_thumbnail


@pytest.mark.parametrize("rows", range(1, 7))
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 8, 16])
def test_equal_to_torch(rows: int, columns: int) -> None:
    side = 20
    planes = np.random.RandomState(rows * columns).randint(0, 256, (3, rows * side, columns * side)).astype(np.uint8)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(planes)[None].double(), (side, side), mode="bicubic", align_corners=False
    )
    ours = bicubic_thumbnail(planes, rows, columns)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs[0].numpy()).max() < 1e-4, "of 255 levels"


def test_one_tile_is_its_own_thumbnail() -> None:
    planes = np.random.RandomState(0).randint(0, 256, (3, 20, 20)).astype(np.uint8)
    assert (bicubic_thumbnail(planes, 1, 1) == planes).all()
