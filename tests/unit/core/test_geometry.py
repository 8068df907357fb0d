"""The HD grid, by its own rules; the recorded table of sizes is compared in tests/parity."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phisight.core.errors import ElongatedImageError
from phisight.core.geometry import grid_tokens, hd_grid, image_tokens

SIDES = st.integers(1, 6000)
CROPS = st.integers(1, 16)


@given(SIDES, SIDES, CROPS)
def test_a_grid_holds_the_scaled_image_and_no_more_crops_than_allowed(width: int, height: int, crops: int) -> None:
    try:
        grid = hd_grid(width, height, crops)
    except ElongatedImageError:
        assert max(width, height) > 336 * min(width, height)
        return
    assert 1 <= grid.tiles <= crops
    assert grid.tiles == grid.rows * grid.columns
    assert (grid.width % 336, grid.height % 336) == (0, 0)
    long, short = max(grid.width, grid.height), min(grid.width, grid.height)
    assert grid.scaled_width == long or grid.scaled_width == short == long
    assert grid.scaled_height + grid.pad_top + grid.pad_bottom == (grid.width if grid.transposed else grid.height)
    assert 0 <= grid.pad_bottom - grid.pad_top <= 1
    assert grid.pad_top + grid.pad_bottom < 336


@given(SIDES, SIDES, CROPS)
def test_portrait_is_landscape_on_its_side(width: int, height: int, crops: int) -> None:
    if width == height:
        return
    try:
        one, other = hd_grid(width, height, crops), hd_grid(height, width, crops)
    except ElongatedImageError:
        return
    assert (one.width, one.height, one.pad_top) == (other.height, other.width, other.pad_top)
    assert one.transposed != other.transposed


@given(st.integers(1, 16), st.integers(1, 16), st.sampled_from([56, 112, 336]))
def test_tokens_count_tiles_thumbnail_and_separators(rows: int, columns: int, crop_size: int) -> None:
    side = crop_size // 28
    image = rows * side * (columns * side + 1)
    thumbnail = side * (side + 1)
    assert grid_tokens(rows, columns, crop_size) == image + 1 + thumbnail


@pytest.mark.parametrize(
    ("width", "height", "crops", "tokens"),
    [(336, 336, 1, 313), (1344, 1008, 16, 1921), (640, 480, 4, 757), (399, 200, 4, 457), (598, 300, 4, 757)],
)
def test_published_counts(width: int, height: int, crops: int, tokens: int) -> None:
    assert image_tokens(width, height, crops) == tokens


def test_rows_and_columns_count_differently() -> None:
    assert grid_tokens(1, 2) == 457
    assert grid_tokens(2, 1) == 469


def test_the_float_division_is_part_of_the_format() -> None:
    # 336 * 4 / (1344 / 1008) is 1008 exactly; truncation of a quotient just below an integer loses a row of pixels.
    width, height = next(
        (w, h) for w in range(100, 1000) for h in range(50, w) if int(336 / (w / h)) != math.floor(336 * h / w)
    )
    assert hd_grid(width, height, 1).scaled_height == int(336 / (width / height)) == 336 * height // width - 1


def test_an_elongated_image_names_size_and_crops() -> None:
    with pytest.raises(ElongatedImageError, match=r"5377 x 1 pixels is too long and thin for 16 crops.* 5376 pixels"):
        hd_grid(5377, 1, 16)
    assert hd_grid(5376, 1, 16).tiles == 16
