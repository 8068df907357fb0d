"""Images to ``pixel_values``: the official pixels, computed once each.

    image --RGB--> [mirrored if portrait] --resize bilinear, pad white--> uint8[H, W, 3]
      --bicubic----------------> thumbnail               -> pixel_values[0]
      --cut--------------------> rows x columns of tiles -> pixel_values[1:]      both: / 255, - mean, / std

Source: the official image processor (``Phi3VImageProcessor``) of microsoft/Phi-3-vision-128k-instruct. As there, alpha
is dropped, EXIF orientation is ignored, and the thumbnail is bicubic without antialiasing (it may overshoot).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import load_image

from phisight.core.errors import ImageError
from phisight.core.geometry import CROP_SIZE, HDGrid, grid_tokens, hd_grid

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
WHITE = 255
HIGHEST_LEVEL = np.float32(255)


class Phi3VImageProcessor(BaseImageProcessor):
    """Image processor of Phi-3-Vision and Phi-3.5-Vision (the official name, which published files refer to).

    ``num_crops``: most tiles of an image (16 for Phi-3-Vision, 4 for Phi-3.5-Vision). ``crop_size``: pixels of a tile.
    """

    model_input_names = ["pixel_values", "image_sizes"]  # noqa: RUF012

    def __init__(
        self,
        num_crops: int = 1,
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
        do_convert_rgb: bool = True,
        crop_size: int = CROP_SIZE,
        num_img_tokens: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("auto_map", None)  # names remote code, which is neither run nor saved
        super().__init__(**kwargs)
        self.num_crops = num_crops
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.do_convert_rgb = do_convert_rgb
        self.crop_size = crop_size
        self.num_img_tokens = num_img_tokens or grid_tokens(0, 0, crop_size) - 1 - crop_size // 28

    def __call__(self, images: Any, **kwargs: Any) -> BatchFeature:
        """See ``preprocess``."""
        return self.preprocess(images, **kwargs)

    def preprocess(
        self,
        images: Any,
        num_crops: int | None = None,
        return_tensors: str | None = "pt",
        pad_crops: bool = True,
        **_: Any,
    ) -> BatchFeature:
        """Pixels of one image or several (PIL images or uint8[H, W, 3] arrays).

        Returns ``pixel_values`` float32[images, crops + 1, 3, S, S] (thumbnail, tiles row by row, then zeros),
        ``image_sizes`` int64[images, 2] (height and width after padding) and ``num_img_tokens`` (a list). ``crops`` is
        ``num_crops``, or with ``pad_crops=False`` the most tiles that an image of this call needs.
        """
        crops = num_crops or self.num_crops
        rgb = [self._as_rgb(image) for image in _flat(images)]
        grids = [hd_grid(*image.size, crops, self.crop_size) for image in rgb]
        most = crops if pad_crops else max((grid.tiles for grid in grids), default=0)
        side = self.crop_size
        pixels = np.zeros((len(rgb), most + 1, 3, side, side), dtype=np.float32)
        for row, (image, grid) in enumerate(zip(rgb, grids, strict=True)):
            self._fill(pixels[row], image, grid)
        sizes = np.array([[grid.height, grid.width] for grid in grids], dtype=np.int64).reshape(-1, 2)
        return BatchFeature(
            data={
                "pixel_values": torch.from_numpy(pixels) if return_tensors == "pt" else pixels,
                "image_sizes": sizes,
                "num_img_tokens": [grid_tokens(grid.rows, grid.columns, side) for grid in grids],
            },
            tensor_type=return_tensors,
            skip_tensor_conversion=["num_img_tokens"],
        )

    def _as_rgb(self, image: Any) -> Image.Image:
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
            return Image.fromarray(image)
        if isinstance(image, str):
            image = load_image(image)  # a path or an address, by the library's rules
        if not isinstance(image, Image.Image):
            shape = f" of shape {tuple(image.shape)}" if hasattr(image, "shape") else ""
            raise ImageError(
                f"an image must be a PIL image or a uint8[height, width, 3] array, not {type(image).__name__}{shape}; "
                "open it with PIL.Image.open"
            )
        if not self.do_convert_rgb and image.mode != "RGB":
            raise ImageError(f"an image has mode {image.mode}; convert it to RGB or leave do_convert_rgb on")
        return image if image.mode == "RGB" else image.convert("RGB")  # Pillow would copy

    def _fill(self, out: NDArray[np.float32], image: Image.Image, grid: HDGrid) -> None:
        """Write thumbnail and tiles of one image into ``out`` float32[1 + tiles, 3, S, S]."""
        side = grid.crop_size
        planes = np.ascontiguousarray(scaled_and_padded(image, grid).transpose(2, 0, 1))
        for tile, crop in enumerate(out[1 : 1 + grid.tiles]):
            top, left = tile // grid.columns * side, tile % grid.columns * side
            self._normalize(planes[:, top : top + side, left : left + side], crop)
        if grid.tiles == 1:
            out[0] = out[1]  # nothing is scaled
        else:
            self._normalize(bicubic_thumbnail(planes, grid.rows, grid.columns), out[0])

    def _normalize(self, levels: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Levels 0..255 [3, S, S] to ``out`` float32: a channel at a time, which stays in the cache."""
        for channel, (mean, std) in enumerate(zip(self.image_mean, self.image_std, strict=True)):
            plane = out[channel]
            np.divide(levels[channel], HIGHEST_LEVEL, out=plane)
            plane -= np.float32(mean)
            plane /= np.float32(std)


def bicubic_thumbnail(planes: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.float32]:
    """uint8[3, rows * S, columns * S] to float32[3, S, S] in 0..255: bicubic (a = -0.75), no antialiasing, no clipping.

    A whole number of pixels goes into one, so the sampling points fall on a pixel (odd numbers) or halfway between two
    (even ones), where the four nearest weigh -3, 19, 19, -3 of 32. At the edge the outermost pixel stands for those
    beyond.
    """
    side = planes.shape[1] // rows
    thumbnail = np.empty((len(planes), side, side), dtype=np.float32)
    for plane, out in zip(planes, thumbnail, strict=True):  # a channel at a time, which stays in the cache
        lines, weight = _sampled(plane, rows, np.dtype(np.int16))
        points, other = _sampled(lines.T, columns, np.dtype(np.float32))  # whole numbers below 2**24: exact
        np.divide(points.T, np.float32(weight * other), out=out)
    return thumbnail


def _sampled(lines: NDArray[Any], step: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """Lines [side * step, n] to those at the sampling points [side, n], times a weight, and the weight."""
    if step % 2:
        return lines[step // 2 :: step], 1
    if step == 2:
        even, odd = lines[0::2].astype(dtype), lines[1::2].astype(dtype)
        outer = np.empty_like(even)
        np.add(odd[:-2], even[2:], out=outer[1:-1])
        outer[0], outer[-1] = even[0] + even[1], odd[-2] + odd[-1]
        return _halfway(even + odd, outer), 32
    before, left, right, after = (lines[step // 2 - 2 + place :: step].astype(dtype) for place in range(4))
    return _halfway(left + right, before + after), 32


def _halfway(inner: NDArray[Any], outer: NDArray[Any]) -> NDArray[Any]:
    """32 times the bicubic value between two pixels, from the sum of these and that of the ones beyond; in place."""
    inner *= 19
    outer *= 3
    inner -= outer
    return inner


def scaled_and_padded(image: Image.Image, grid: HDGrid) -> NDArray[np.uint8]:
    """The RGB image in the frame of its grid, uint8[height, width, 3]: scaled, white above and below (or beside)."""
    if grid.transposed:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    scaled = np.asarray(image.resize((grid.scaled_width, grid.scaled_height), Image.Resampling.BILINEAR))
    if grid.pad_top or grid.pad_bottom:
        scaled = np.pad(scaled, ((grid.pad_top, grid.pad_bottom), (0, 0), (0, 0)), constant_values=WHITE)
    return scaled.transpose(1, 0, 2) if grid.transposed else scaled


def _flat(images: Any) -> list[Any]:
    """One image, a list of images or a list of lists, as one list."""
    if isinstance(images, (list, tuple)):
        return [image for item in images for image in _flat(item)]
    return [images]
