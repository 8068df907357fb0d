"""Hidden states below the trained layers, computed once per example and read from disk in every later epoch and run.

    images, text --tower, projector, embeddings, layers 0 .. k-1 (all frozen)--> states[T, D] --layers k ..--> loss
                 '-------------------------- once, cached ----------------------'              '-- every step -'

    FOLDER/<key>/<hash of images and ids>.safetensors    states[T, D]
    FOLDER/<key>/weights.safetensors                     all weights below layer k: see ``offload``

The key is a hash of those weights, of the decoder's configuration, of the processor's settings and of the dtype of the
computation; see ``store`` for files and the bound on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from phisight.model.attention import inside_adapters
from phisight.train.cache.offload import OFFLOADED_WEIGHTS, weights_below
from phisight.train.cache.store import HEADER_BYTES, TensorStore, key_of
from phisight.train.cache.vision_features import processing_of
from phisight.train.distributed.placement import on_device
from phisight.train.trainable.module_groups import is_below

FORMAT = 1
"""Incremented whenever the states of the same example change."""

DROPOUTS = ("embd_pdrop", "resid_pdrop", "attention_dropout")


def why_not_fixed(model: Any, first_layer: int) -> str | None:
    """Why hidden states before ``first_layer`` are not the same in every step; None where they are."""
    if first_layer == 0:
        return "train.from_layer is 0"
    trainable = [name for name, one in model.named_parameters() if one.requires_grad and is_below(name, first_layer)]
    if trainable:
        return f"{len(trainable)} tensors below layer {first_layer} train, such as {trainable[0]}"
    config = model.config
    dropped = [name for name in DROPOUTS if getattr(config, name, 0)]
    if config.vision_config.attention_dropout:
        dropped.append("vision_config.attention_dropout")
    if dropped:
        return f"the model uses dropout ({', '.join(dropped)})"
    if config.original_length is not None and config.rope_switch == "batch":
        return "rope_switch batch makes an example depend on the others of its batch"
    return None


def trunk_key(model: Any, first_layer: int, image_processor: Any, num_crops: int, *, bf16: bool) -> str:
    """Hash of all that an example's states depend on, besides its images and ids."""
    config = model.config.to_dict()
    relevant = ("rms_norm_eps", "rope_theta", "rope_scaling", "sliding_window", "num_attention_heads", "hidden_act")
    settings = {
        "format": FORMAT,
        **processing_of(image_processor, num_crops),
        "bf16": bf16,
        "first_layer": first_layer,
        **{name: config.get(name) for name in (*relevant, "num_key_value_heads", "original_max_position_embeddings")},
    }
    return key_of(settings, weights_below(model, first_layer).items())


def example_name(image_hash: str | None, ids: Sequence[int]) -> str:
    """Name of an example's file: a hash of its images' hashes and its ids."""
    return hashlib.sha256(f"{image_hash} {list(ids)}".encode()).hexdigest()[:40]


class TrunkCache(TensorStore):
    """Hidden states before one layer, on disk."""

    def __init__(self, folder: Path, key: str, first_layer: int) -> None:
        super().__init__(folder, key, ("states",))
        self.first_layer = first_layer

    def read(self, name: str) -> Tensor:
        """States [T, D]; FeatureCacheError when the file is missing or damaged."""
        return self.load(name)["states"]


@torch.no_grad()
def fill(
    cache: TrunkCache,
    model: Any,
    sets: Iterable[Any],
    *,
    bf16: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _every: None,
) -> int:
    """Compute the missing states of some ``ExampleSet``; returns how many examples were computed."""
    missing = {
        name: (examples, index) for examples in sets for index, name in enumerate(examples.names) if cache.lacks(name)
    }
    decoder = inside_adapters(model).model
    device = decoder.norm.weight.device
    loader = DataLoader(_Examples(list(missing.values())), batch_size=None, num_workers=workers)
    training = model.training
    model.eval()
    try:
        for done, (name, example) in enumerate(zip(missing, loader, strict=True), start=1):
            inputs = on_device(device, as_single_batch(example))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                states = decoder.trunk(cache.first_layer, **inputs)
            cache.write(name, {"states": states[0]})
            progress(done, len(missing))
    finally:
        model.train(training)
    return len(missing)


def bytes_needed(model: Any, first_layer: int, lengths: Iterable[int]) -> int:
    """Bytes of the states of examples of these lengths, and of the weights below the layer."""
    weights = weights_below(model, first_layer)
    value: int = weights["model.embed_tokens.weight"].element_size() * model.config.hidden_size
    stored = sum(one.nbytes for one in weights.values()) + len(weights) * HEADER_BYTES
    return stored + sum(length * value + HEADER_BYTES for length in lengths)


def make_room(cache: TrunkCache, names: Iterable[str], needed: int, bound: int) -> bool:
    """Whether these examples and the weights fit; see ``TensorStore.make_room``."""
    return cache.make_room({*names, OFFLOADED_WEIGHTS}, needed, bound)


def as_single_batch(example: Mapping[str, Any]) -> dict[str, Tensor]:
    """An example as a batch of one: ids [1, T] and its images, padded to the same number of crops."""
    images = {
        name: pad_sequence(example[name], batch_first=True)
        for name in ("pixel_values", "image_features")
        if name in example
    }
    sizes = {"image_sizes": example["image_sizes"]} if images else {}
    return {"input_ids": example["input_ids"][None], **images, **sizes}


class _Examples(Dataset[Any]):
    def __init__(self, indices: Sequence[tuple[Any, int]]) -> None:
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        examples, own_index = self.indices[index]
        return examples.prepare(own_index)
