"""LoRA on all layers: the plain way, and ours with the tower computed, its features cached, packed, checkpointed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from gpu.device import timed
from gpu.record import Figures
from gpu.session import Session
from gpu.training import FEATURES, Batch, Step, Variant, adapted, collated, layers_of, make_examples
from phisight.core.settings import TrainSettings
from phisight.train.cache.vision_features import FeatureCache

PART = "lora"
PLAIN = Variant("plain, micro-batches of one", plain=True, micro_batch=1)
PLAIN_TOGETHER = Variant("plain, our micro-batches", plain=True)
COMPUTED = Variant("ours, tower computed")
CACHED = Variant("ours, features in memory", FEATURES)
CHECKPOINTED = Variant("ours, features in memory, checkpointing", FEATURES, checkpointing=True)
WRITTEN = Variant("ours, elementwise chains as written, features in memory", FEATURES, chains_compiled=False)
UNFUSED = Variant("ours without fused layers, features in memory", FEATURES, fused=False)
WARM = 8
"""Steps before a loader's pinned memory is all allocated and its workers are ahead."""
PACKED = Variant("ours, mixed lengths, packed", FEATURES, packed=True)
PADDED = Variant("ours, mixed lengths, padded", FEATURES)


def run(session: Session) -> None:
    """Long examples first: they are what the aim speaks of."""
    train = TrainSettings(method="lora", bf16=True)
    record, size = session.record, session.size
    short, long = size.grids
    with adapted(session.model) as model:
        for grid in (long, short):
            told = f"{size.image_tokens(grid):,} image tokens"
            grids = [grid] * session.examples
            for variant in (CACHED, PLAIN, COMPUTED):
                profiled = grid == long and variant is CACHED

                def measure(variant: Variant = variant, grids: list[int] = grids, profiled: bool = profiled) -> Figures:
                    return session.measure(model, variant, grids, train=train, profiled=profiled)

                record.attempt(PART, f"{told}: {variant.name}", session.needs(8), measure)
        mixed = [short, long] * (session.examples // 2)
        for variant in (PACKED, PADDED):
            record.attempt(
                PART,
                variant.name,
                session.needs(6),
                lambda variant=variant: session.measure(model, variant, mixed, train=train),  # type: ignore[misc]
            )
        told = f"{size.image_tokens(long):,} image tokens"
        record.attempt(PART, f"{told}: ours, features on disk", session.needs(12), lambda: from_disk(session, model))
        for variant in (WRITTEN, PLAIN_TOGETHER, CHECKPOINTED, UNFUSED):
            record.attempt(
                PART,
                f"{told}: {variant.name}",
                session.needs(9),
                lambda variant=variant: session.measure(model, variant, [long] * session.examples, train=train),  # type: ignore[misc]
            )


class StoredFeatures(Dataset[Any]):
    """Examples whose features are read from the cache of a folder, over and over."""

    def __init__(self, examples: list[Any], cache: FeatureCache, times: int) -> None:
        self.examples, self.cache, self.times = examples, cache, times

    def __len__(self) -> int:
        return len(self.examples) * self.times

    def __getitem__(self, index: int) -> Any:
        place = index % len(self.examples)
        features, sizes = self.cache.read(f"{place:064x}")
        return {**self.examples[place], FEATURES: [features.clone()], "image_sizes": sizes[None]}


def from_disk(session: Session, model: Any) -> Figures:
    """Steps that are fed from the cache's files by worker processes; ``data_wait`` is the share of waiting."""
    grid = session.size.grids[1]
    examples = make_examples(session.size, session.processor, [grid] * session.examples, FEATURES, model)
    micro = session.record.figure(
        PART, f"{session.size.image_tokens(grid):,} image tokens: {CACHED.name}", "micro_batch"
    )
    micro = int(micro or 1)
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder), "0" * 32)
        for place, one in enumerate(examples):
            cache.write(f"{place:064x}", {"features": one[FEATURES][0], "image_sizes": one["image_sizes"][0]})
        without = [{k: v for k, v in one.items() if k not in (FEATURES, "image_sizes")} for one in examples]
        return fed(session, model, CACHED, StoredFeatures(without, cache, 64), micro, workers=4 if session.full else 0)


def fed(session: Session, model: Any, variant: Variant, examples: Dataset[Any], micro: int, *, workers: int) -> Figures:
    """Steps of one micro-batch that a loader with so many worker processes prepares."""

    def collate(some: list[Any]) -> Batch:
        return collated(some, session.processor, packed=variant.packed, pin=False)

    loader = DataLoader(
        examples,
        batch_size=micro,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=session.device.kind == "cuda",
        drop_last=True,
    )
    waited: list[float] = []
    source = iter(loader)

    def coming() -> Iterator[Batch]:
        start = time.perf_counter()
        batch = next(source)
        waited.append(time.perf_counter() - start)
        return iter([batch])

    step = Step(model, session.device, coming, plain=variant.plain)
    most = max(2, min(20, len(loader) - WARM - 4))
    with layers_of(model, variant):
        timing = timed(session.device, step, seconds=session.step_seconds, most=most, warm=WARM if session.full else 1)
    timed_steps = len(timing.seconds)
    wait = sum(waited[-timed_steps:]) / sum(timing.seconds)
    return {
        "images_per_s": micro / timing.typical,
        "data_wait": wait,
        "micro_batch": micro,
        "workers": workers,
        "loss": step.loss,
        **timing.as_json(),
    }
