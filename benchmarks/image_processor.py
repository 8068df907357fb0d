"""Time our image processor against a plain implementation of the same steps, in one run, on one thread.

    python benchmarks/image_processor.py [--json FILE]

The plain one does what the published processor describes, step by step with PIL and torch: convert, mirror if
portrait, resize, pad, to float, divide by 255, subtract the mean, divide by the deviation, interpolate the thumbnail,
cut, pad with empty crops. Both give the same pixels; that is checked first.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from phisight.core.geometry import HDGrid, hd_grid
from phisight.model.image_processing import CLIP_MEAN, CLIP_STD, Phi3VImageProcessor

SIZES = {"photo 800 x 800": (800, 800), "landscape 1344 x 1008": (1344, 1008), "portrait 600 x 900": (600, 900)}
CROPS = (4, 16)
ROUNDS = 15
SIDE = 336
THUMBNAIL = 2e-6
"""Summing in another order moves a thumbnail's pixels by less than this; tiles are equal bit for bit."""


def plain(images: list[Image.Image], num_crops: int) -> Tensor:
    """float32[images, num_crops + 1, 3, 336, 336], one step after the other."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    stacked = []
    for image in images:
        rgb = image.convert("RGB")
        grid = hd_grid(*rgb.size, num_crops)
        rgb = resized(rgb, grid)
        padded = np.pad(np.asarray(rgb), ((grid.pad_top, grid.pad_bottom), (0, 0), (0, 0)), constant_values=255)
        pixels = torch.from_numpy(padded).permute(2, 0, 1).contiguous().float() / 255
        if grid.transposed:
            pixels = pixels.transpose(1, 2).contiguous()
        pixels = (pixels - mean) / std
        thumbnail = torch.nn.functional.interpolate(pixels[None], (SIDE, SIDE), mode="bicubic", align_corners=False)
        tiles = pixels.reshape(3, grid.rows, SIDE, grid.columns, SIDE).permute(1, 3, 0, 2, 4)
        crops = torch.cat([thumbnail, tiles.reshape(-1, 3, SIDE, SIDE)])
        empty = torch.zeros(num_crops + 1 - len(crops), 3, SIDE, SIDE)
        stacked.append(torch.cat([crops, empty]))
    return torch.stack(stacked)


def resized(image: Image.Image, grid: HDGrid) -> Image.Image:
    """The part that both leave to Pillow."""
    if grid.transposed:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    return image.resize((grid.scaled_width, grid.scaled_height), Image.Resampling.BILINEAR)


def median_ms(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median milliseconds of each call, taken in turns so that both see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: float(np.median(each)) for name, each in times.items()}


def main() -> None:
    """Print one line an image and number of crops; CPU time, since other work may share the machine."""
    parser = argparse.ArgumentParser(description="Image processor against a plain implementation")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for crops in CROPS:
        ours = Phi3VImageProcessor(num_crops=crops)
        for name, (width, height) in SIZES.items():
            noise = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
            image = Image.fromarray(noise)
            difference = (plain([image], crops) - ours(image)["pixel_values"]).abs().amax(dim=(0, 2, 3, 4))
            if difference[1:].any() or difference[0] > THUMBNAIL:
                raise SystemExit(f"{name}, {crops} crops: the two give different pixels")
            calls: dict[str, Callable[[], Any]] = {
                "plain": partial(plain, [image], crops),
                "ours": partial(ours, image),
                "resize": partial(resized, image, hd_grid(width, height, crops)),
            }
            took = median_ms(calls)
            whole = took["ours"] / took["plain"]
            own = (took["ours"] - took["resize"]) / (took["plain"] - took["resize"])
            results.append({"image": name, "num_crops": crops, **took, "ratio": whole, "ratio_without_resize": own})
            print(
                f"{name:22} {crops:2} crops   plain {took['plain']:5.1f} ms   ours {took['ours']:5.1f} ms   {whole:.2f}"
                f"   Pillow's resize in both {took['resize']:5.1f} ms   the rest {own:.2f}"
            )
    if asked.json:
        about = {"machine": platform.machine(), "torch": torch.__version__, "rounds": ROUNDS, "results": results}
        asked.json.write_text(json.dumps(about, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
