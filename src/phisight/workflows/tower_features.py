"""One vector a picture from the model's own vision tower: what the cheap baselines look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phisight.data.images.decode import load_image

BATCH = 32


@torch.no_grad()
def tower_features(model: Any, processor: Any, images: Sequence[Path]) -> NDArray[np.float32]:
    """float32[N, 4V]: the tower's merged patches of the thumbnail (the whole picture in one crop), averaged."""
    embedding = model.model.vision_embed_tokens
    found = []
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        pixels = processor.image_processor([load_image(path) for path in some], num_crops=1, return_tensors="pt")
        patches = embedding.tower_features(pixels["pixel_values"][:, 0])
        found.append(patches.float().mean(dim=(1, 2)).cpu().numpy())
    return np.concatenate(found)
