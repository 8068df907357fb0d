"""Features of a frozen tower, computed once per distinct picture and read from disk in every later epoch and run.

    FOLDER/<key>/<hash of the picture>.safetensors    features[crops, n, n, 4V], image_sizes int64[2]

The key is a hash of the tower's weights, of the processor's settings and of the type that is computed in: another tower
looks into another folder. A file appears whole or not at all, so a run that was stopped goes on where it was. The bound
holds for the whole folder; what other keys left there goes first, the longest unused before the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from phisight.core.datadir import HEIGHT, SHA256, WIDTH
from phisight.core.errors import FeatureCacheError
from phisight.core.geometry import PIXELS_PER_TOKEN, hd_grid
from phisight.core.rundir import atomic_file

FORMAT = 1
"""Raised whenever pixels or features of the same picture come out otherwise."""

HEADER_BYTES = 256
"""Most bytes of a file besides its features."""

Row = Mapping[str, Any]
Pixels = Callable[[Row], tuple[Tensor, Tensor]]
"""Row to crops float32[1 + tiles, 3, S, S] and size after padding int64[2]."""


def is_fixed(model: Any) -> bool:
    """The tower gives the same features in every step: nothing in it trains and nothing is dropped at random."""
    tower = _embedding(model).img_processor
    frozen = not any(parameter.requires_grad for parameter in tower.parameters())
    return frozen and model.config.vision_config.attention_dropout == 0


def tower_key(model: Any, image_processor: Any, num_crops: int, *, bf16: bool) -> str:
    """Hash of all that a picture's features depend on, besides the picture."""
    settings = {
        "format": FORMAT,
        "num_crops": num_crops,
        "bf16": bf16,
        **{name: getattr(image_processor, name) for name in ("crop_size", "image_mean", "image_std", "do_convert_rgb")},
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, weights in sorted(_embedding(model).img_processor.state_dict().items()):
        digest.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


class FeatureCache:
    """Features of one tower on disk."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key

    def path(self, image_hash: str) -> Path:
        """File of a picture."""
        return self.folder / f"{image_hash}.safetensors"

    def read(self, image_hash: str) -> tuple[Tensor, Tensor]:
        """Features [1 + tiles, n, n, 4V] and padded size int64[2]; FeatureCacheError when the file is gone or damaged.

        Where the thumbnail is the only tile again, both share their memory.
        """
        path = self.path(image_hash)
        try:
            with safe_open(path, framework="pt") as file:
                features, size = file.get_tensor("features"), file.get_tensor("image_sizes")
        except (OSError, SafetensorError) as error:
            raise FeatureCacheError(
                f"{path} cannot be read ({' '.join(str(error).split())[:120]}); was it deleted or overwritten while "
                "training ran? Start again: it is computed anew"
            ) from error
        return (features.expand(2, -1, -1, -1) if len(features) == 1 else features), size

    def write(self, image_hash: str, features: Tensor, size: Tensor) -> None:
        """Keep the features of a picture's distinct crops; whole or not at all."""
        with atomic_file(self.path(image_hash)) as file:
            file.write(save({"features": features.contiguous().cpu(), "image_sizes": size}))

    def lacks(self, image_hash: str) -> bool:
        """There is no file of this picture, or it is damaged."""
        try:
            with safe_open(self.path(image_hash), framework="pt") as file:
                return set(file.keys()) != {"features", "image_sizes"}
        except (OSError, SafetensorError):
            return True


@torch.no_grad()
def fill(
    cache: FeatureCache,
    model: Any,
    rows: Iterable[Row],
    pixels: Pixels,
    *,
    bf16: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _every: None,
) -> int:
    """Compute what the cache lacks, each distinct picture once; returns how many pictures were computed."""
    lacking = [row for row in _distinct(rows) if cache.lacks(row[SHA256])]
    embedding = _embedding(model)
    device = embedding.glb_GN.device
    pictures = DataLoader(_Pictures(lacking, pixels), batch_size=None, num_workers=workers)
    for done, (row, (crops, size)) in enumerate(zip(lacking, pictures, strict=True), start=1):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            features = embedding.tower_features(_distinct_crops(crops))
        cache.write(row[SHA256], features, size)
        progress(done, len(lacking))
    return len(lacking)


def bytes_needed(model: Any, rows: Iterable[Row], num_crops: int) -> int:
    """Bytes of the features of all distinct pictures, from their sizes; no picture is opened."""
    embedding = _embedding(model)
    side = embedding.crop_size // PIXELS_PER_TOKEN
    crop = side * side * embedding.glb_GN.shape[-1] * embedding.glb_GN.element_size()
    tiles = [hd_grid(row[WIDTH], row[HEIGHT], num_crops, embedding.crop_size).tiles for row in _distinct(rows)]
    return sum((1 if one == 1 else one + 1) * crop + HEADER_BYTES for one in tiles)


def make_room(cache: FeatureCache, rows: Iterable[Row], needed: int, bound: int) -> bool:
    """Whether the ``needed`` bytes of the rows' pictures fit into ``bound`` bytes on disk; frees what that takes.

    Folders of other towers go first, the longest unused before the others, then pictures that the rows do not show.
    """
    if needed > bound:
        return False
    cache.folder.mkdir(parents=True, exist_ok=True)
    os.utime(cache.folder)
    kept = {row[SHA256] for row in rows}
    folders = sorted((one for one in cache.folder.parent.iterdir() if _is_key(one)), key=_last_used)
    strangers = [path for path in cache.folder.glob("*.safetensors") if path.stem not in kept]
    removable = [folder for folder in folders if folder != cache.folder] + strangers
    excess = needed + sum(map(_size, removable)) - bound
    for path in removable:
        if excess <= 0:
            break
        excess -= _size(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return True


def _is_key(path: Path) -> bool:
    """Only folders that this module made are ever deleted."""
    return path.is_dir() and len(path.name) == 32 and set(path.name) <= set("0123456789abcdef")


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def _size(path: Path) -> int:
    return sum(map(_size, path.iterdir())) if path.is_dir() else path.stat().st_size


def _distinct(rows: Iterable[Row]) -> list[Row]:
    return list({row[SHA256]: row for row in rows}.values())


def _distinct_crops(crops: Tensor) -> Tensor:
    """The thumbnail of one tile is that tile again, unless it was scaled otherwise."""
    return crops[:1] if len(crops) == 2 and torch.equal(crops[0], crops[1]) else crops


def _embedding(model: Any) -> Any:
    """The image embedding, wherever adapters have put it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.model.vision_embed_tokens


class _Pictures(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, rows: Sequence[Row], pixels: Pixels) -> None:
        self.rows = rows
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pixels(self.rows[index])
