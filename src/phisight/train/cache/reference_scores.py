"""Log-probabilities of the answers of pairs before training, computed once and read in every later epoch and run.

    FOLDER/reference/<key>/<hash of images and ids>.safetensors    log_probabilities float32[sides]

The key is a hash of the weights before training (adapters off), of the configuration, of the processor's settings and
of the dtype of the computation. Each pair is computed alone, so its value depends on no other pair: a resumed run reads
or computes the very same one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phisight.model.attention import inside_adapters
from phisight.train.cache.store import HEADER_BYTES, TensorStore, key_of
from phisight.train.cache.vision_features import processing_of
from phisight.train.distributed.placement import on_device
from phisight.train.losses.preference import forward_arguments, log_probabilities

FORMAT = 1
"""Incremented whenever the value of the same pair changes."""
BOUND = 10**9
"""Bytes on disk, at most, unless one run needs more."""
SIDES = 3


class ReferenceScores(TensorStore):
    """Log-probabilities by one model, on disk."""

    def __init__(self, folder: Path, key: str) -> None:
        super().__init__(folder, key, ("log_probabilities",))

    def read(self, name: str) -> Tensor:
        """float32[sides] of a pair; FeatureCacheError for a missing or damaged file."""
        return self.load(name)["log_probabilities"]


def reference_key(model: Any, image_processor: Any, num_crops: int, *, bf16: bool) -> str:
    """Hash of all that the values depend on, besides images and ids."""
    base = inside_adapters(model)
    values = base.state_dict().items()
    own = [(name.replace(".base_layer", ""), value) for name, value in values if "lora_" not in name]
    config = {
        name: value for name, value in base.config.to_dict().items() if not name.startswith(("_", "transformers"))
    }
    settings = {"format": FORMAT, **processing_of(image_processor, num_crops), "bf16": bf16, "config": config}
    return key_of(settings | {"attention": base.config._attn_implementation}, own)


@torch.no_grad()
def fill(
    scores: ReferenceScores,
    model: Any,
    pairs: Any,
    collate: Callable[[list[Any]], dict[str, Any]],
    *,
    bf16: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _every: None,
) -> int:
    """Compute the missing values with the model as it is, adapters off; returns how many pairs were computed.

    Args:
        scores: Where they go.
        model: In any mode, which it has afterwards, too.
        pairs: Has ``names`` and gives pairs by index (``PairSet``).
        collate: A list of pairs to a batch.
        bf16: Compute by autocast in bfloat16.
        progress: Gets the pairs computed and those to compute.
    """
    names = pairs.names
    needed = len(names) * (HEADER_BYTES + SIDES * 4)
    scores.make_room(set(names), needed, max(BOUND, needed))
    missing = {name: index for index, name in enumerate(names) if scores.lacks(name)}
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
            for done, (name, index) in enumerate(missing.items(), start=1):
                batch = on_device(device, collate([pairs[index]]))
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    outputs = model(**forward_arguments(batch))
                scores.write(name, {"log_probabilities": log_probabilities(outputs.logits, batch)[0][0]})
                progress(done, len(missing))
    finally:
        model.train(training)
    return len(missing)
