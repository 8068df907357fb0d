"""Features of a frozen tower, computed once per distinct image and read from disk in every later epoch and run.

    FOLDER/<key>/<hash of the image>.safetensors    features[crops, n, n, 4V], image_sizes int64[2]

The key is a hash of the tower's weights, of the processor's settings and of the dtype of the computation; see ``store``
for files and the bound on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from phisight.core.dataset_folder import HEIGHT, SHA256, WIDTH
from phisight.core.geometry import PIXELS_PER_TOKEN, hd_grid
from phisight.data.images.decode import DECODER
from phisight.model.attention import inside_adapters
from phisight.train.cache.store import HEADER_BYTES, TensorStore, key_of

FORMAT = 1
"""Incremented whenever pixels or features of the same image change."""
CROPS = 17
"""Most crops that go through the tower at once, unless one image has more: as many as an image of 16 tiles has."""

AHEAD = 8
"""Images that a thread decodes ahead: of 16 tiles each, 0.2 GB."""
WRITERS = 4
"""Threads that write files while the next images go through the tower."""

Row = Mapping[str, Any]
Pixels = Callable[[Row], tuple[Tensor, Tensor]]
"""Row to crops float32[1 + tiles, 3, S, S] and size after padding int64[2]."""


def is_frozen(model: Any) -> bool:
    """Whether the tower gives the same features in every step: nothing in it trains, no dropout."""
    tower = image_embedding(model).img_processor
    frozen = not any(parameter.requires_grad for parameter in tower.parameters())
    return frozen and model.config.vision_config.attention_dropout == 0


def tower_key(model: Any, image_processor: Any, num_crops: int, *, bf16: bool) -> str:
    """Hash of all that an image's features depend on, besides the image."""
    settings = {"format": FORMAT, **processing_of(image_processor, num_crops), "bf16": bf16}
    return key_of(settings, image_embedding(model).img_processor.state_dict().items())


def processing_of(image_processor: Any, num_crops: int) -> dict[str, Any]:
    """What an image's pixels depend on, besides the image."""
    names = ("crop_size", "image_mean", "image_std", "do_convert_rgb")
    return {"decoder": DECODER, "num_crops": num_crops, **{name: getattr(image_processor, name) for name in names}}


class FeatureCache(TensorStore):
    """Features of one tower, on disk."""

    def __init__(self, folder: Path, key: str) -> None:
        super().__init__(folder, key, ("features", "image_sizes"))

    def read(self, image_hash: str) -> tuple[Tensor, Tensor]:
        """Features [1 + tiles, n, n, 4V] and padded size int64[2]; FeatureCacheError for a missing or damaged file.

        Where the thumbnail equals the only tile, both share their memory. The file is not mapped any more: a process
        may map some 65,000 files, and whoever keeps features may keep more.
        """
        stored = self.load(image_hash)
        features = stored["features"].clone()
        return (features.expand(2, -1, -1, -1) if len(features) == 1 else features), stored["image_sizes"]


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
    """Compute the missing features, each distinct image once; returns how many images were computed.

    Several images go through the tower at once: one alone leaves most of a processor's time to single operations.
    """
    missing = [row for row in _distinct(rows) if cache.lacks(row[SHA256])]
    embedding = image_embedding(model)
    device = embedding.glb_GN.device
    images = _decoded(missing, pixels, workers)
    done = 0
    writing: list[Future[None]] = []

    def finish_writing() -> None:
        nonlocal done
        for written in writing:
            written.result()
            done += 1
        if writing:
            progress(done, len(missing))

    with ThreadPoolExecutor(WRITERS) as writers:  # a disk takes about as long for a file as a small tower for an image
        for some in _together(zip(missing, images, strict=True)):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                features = embedding.tower_features(torch.cat([crops for _, crops, _ in some]))
            finish_writing()
            parts = zip(some, features.split([len(crops) for _, crops, _ in some]), strict=True)
            writing = [
                writers.submit(cache.write, name, {"features": own, "image_sizes": size})
                for (name, _, size), own in parts
            ]
        finish_writing()
    return len(missing)


def _decoded(rows: Sequence[Row], pixels: Pixels, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops and size of each row's image, in order: from processes, or by a thread beside the tower."""
    if workers:
        yield from DataLoader(_Images(rows, pixels), batch_size=None, num_workers=workers)
        return
    with ThreadPoolExecutor(1) as decoder:
        coming = deque(decoder.submit(pixels, row) for row in rows[:AHEAD])
        for place in range(len(rows)):
            found = coming.popleft().result()
            if place + AHEAD < len(rows):
                coming.append(decoder.submit(pixels, rows[place + AHEAD]))
            yield found


def _together(images: Iterable[tuple[Row, tuple[Tensor, Tensor]]]) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
    """Hash, distinct crops and size of some images at a time: as many as have at most ``CROPS`` crops, or one."""
    some: list[tuple[str, Tensor, Tensor]] = []
    for row, (crops, size) in images:
        distinct = _distinct_crops(crops)
        if some and sum(len(one) for _, one, _ in some) + len(distinct) > CROPS:
            yield some
            some = []
        some.append((row[SHA256], distinct, size))
    if some:
        yield some


def bytes_needed(model: Any, rows: Iterable[Row], num_crops: int) -> int:
    """Bytes of the features of all distinct images, from their sizes; no image is opened."""
    embedding = image_embedding(model)
    side = embedding.crop_size // PIXELS_PER_TOKEN
    crop = side * side * embedding.glb_GN.shape[-1] * embedding.glb_GN.element_size()
    tiles = [hd_grid(row[WIDTH], row[HEIGHT], num_crops, embedding.crop_size).tiles for row in _distinct(rows)]
    return sum((1 if one == 1 else one + 1) * crop + HEADER_BYTES for one in tiles)


def _distinct(rows: Iterable[Row]) -> list[Row]:
    return list({row[SHA256]: row for row in rows}.values())


def _distinct_crops(crops: Tensor) -> Tensor:
    """One crop where the thumbnail equals the only tile."""
    return crops[:1] if len(crops) == 2 and torch.equal(crops[0], crops[1]) else crops


def image_embedding(model: Any) -> Any:
    """The image embedding of a model, with adapters or without."""
    return inside_adapters(model).model.vision_embed_tokens


class _Images(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, rows: Sequence[Row], pixels: Pixels) -> None:
        self.rows = rows
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pixels(self.rows[index])
