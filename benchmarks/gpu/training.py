"""One training step as phisight takes it and one the plain way, over the same examples; phisight's parts come in here.

    plain   PEFT's layers as written, tower in every step, logits at all positions, attention mask given
    ours    fused layers, logits at labels alone, no mask where it says nothing, caches and packing where asked

Both: bfloat16 weights, float32 adapters, autocast, scaled dot-product attention, AdamW (fused), gradients clipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu.device import Device
from gpu.model import ROW, TASK, Size
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.model.attention import attend_by_sample
from phisight.model.loss import IGNORED
from phisight.train.acceleration.compile import compiled_layers
from phisight.train.acceleration.patch import fused_layers
from phisight.train.cache.hidden_states import as_single_batch
from phisight.train.cache.vision_features import image_embedding
from phisight.train.estimate.flops import Cached, ExampleSize, example_flops
from phisight.train.examples.collators import Collator, PackingCollator, drop_redundant_mask
from phisight.train.examples.tokenize import Conversation, encode_answer
from phisight.train.trainable.methods import apply_method

Batch = dict[str, Any]
STATES, FEATURES, PIXELS = "trunk_states", "image_features", "pixel_values"


@dataclass(frozen=True)
class Variant:
    """One way to take the same step."""

    name: str
    images: str = PIXELS
    """What examples bring: PIXELS, FEATURES or STATES."""
    plain: bool = False
    micro_batch: int | None = None
    """Examples of a micro-batch; None means as many as fit."""
    packed: bool = False
    checkpointing: bool = False
    compiled: bool = False
    fused: bool = True
    chains_compiled: bool = True
    """Whether elementwise chains of the fused layers become one kernel each."""

    @property
    def cached(self) -> Cached:
        """What the step does not compute."""
        return {PIXELS: "nothing", FEATURES: "features", STATES: "hidden states"}[self.images]  # type: ignore[return-value]


def make_examples(
    size: Size, processor: Any, grids: Sequence[int], images: str, model: Any = None, from_layer: int = 0
) -> list[Any]:
    """One example for each of ``grids`` with random pixels, and what the frozen part makes of them where asked."""
    examples = []
    chat = Conversation.of(processor, TASK, ROW)
    generator = torch.Generator().manual_seed(1)
    for grid in grids:
        side = size.crop_size
        ids, labels = encode_answer(processor, chat.prompt, chat.answer, [size.image_tokens(grid)])
        pixels = torch.randn(grid * grid + 1, 3, side, side, generator=generator)
        text = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
        shown = {"image_sizes": torch.tensor([[grid * side, grid * side]])}
        if images == PIXELS:
            examples.append({**text, **shown, PIXELS: [pixels]})
            continue
        device = image_embedding(model).glb_GN.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            features = image_embedding(model).tower_features(pixels.to(device))
            if images == FEATURES:
                examples.append({**text, **shown, FEATURES: [features.cpu()]})
                continue
            inputs = as_single_batch({**text, **shown, FEATURES: [features]})
            decoder = (model.get_base_model() if hasattr(model, "get_base_model") else model).model
            states = decoder.trunk(from_layer, **{name: value.to(device) for name, value in inputs.items()})
        examples.append({**text, STATES: states[0].cpu(), "first_layer": from_layer})
    return examples


def collated(examples: Sequence[Any], processor: Any, *, packed: bool, pin: bool) -> Batch:
    """Examples as one micro-batch, in pinned memory where the device can read that."""
    collator: Callable[[Any], Batch] = PackingCollator() if packed else Collator(processor.tokenizer.pad_token_id)
    batch = collator([{**one, "labels": one["labels"].clone()} for one in examples])
    return {name: value.pin_memory() if pin and torch.is_tensor(value) else value for name, value in batch.items()}


def micro_batch_size(config: Any, tokens: int, device: Device, *, layers: int, checkpointing: bool) -> int:
    """Examples whose activations fit into two thirds of what the weights leave free (at most 32)."""
    D, F = config.hidden_size, config.intermediate_size
    layer = 2 * (8 * D + 4 * F) + 8 * D
    each = tokens * (layer * 2 + layers * 2 * D if checkpointing else layer * layers)
    free = device.total_bytes() - device.used_bytes()
    return max(1, min(32, int(0.66 * free / each)))


class Step:
    """An optimizer step over some micro-batches, which lie in host memory before it."""

    def __init__(
        self,
        model: Any,
        device: Device,
        batches: Callable[[], Iterator[Batch]],
        *,
        plain: bool,
        optimizer: Any = None,
        bf16: bool = True,
    ) -> None:
        self.model, self.device, self.batches, self.plain, self.bf16 = model, device, batches, plain, bf16
        self.trained = [one for one in model.parameters() if one.requires_grad]
        self.optimizer = optimizer or torch.optim.AdamW(self.trained, lr=1e-4, fused=True)
        self.loss = float("nan")
        self.split: dict[str, float] | None = None
        """Seconds of forward, backward and optimizer, where they are to be told apart (which costs overlap)."""

    def __call__(self) -> None:
        """Forward, backward, clip, step."""
        total: Tensor | None = None
        batches = list(self.batches())
        labeled = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
        for batch in batches:
            inputs = self._moved(batch)
            with torch.autocast(self.device.kind, torch.bfloat16, enabled=self.bf16), self._clock("forward"):
                loss = self._loss(inputs, len(batches), labeled)
            with self._clock("backward"):
                loss.backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
        with self._clock("optimizer"):
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.loss = float(total) if total is not None else float("nan")

    def _loss(self, inputs: Batch, micro_batches: int, labeled: int) -> Tensor:
        if self.plain:
            loss: Tensor = self.model(**inputs, use_cache=False).loss
            return loss / micro_batches
        config = self.model.config
        needed = drop_redundant_mask(inputs, config)
        summed: Tensor = self.model(**needed, skip_logits=True, num_items_in_batch=labeled).loss
        return summed

    def _moved(self, batch: Batch) -> Batch:
        device = self.device.torch_device
        return {n: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for n, v in batch.items()}

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        if self.split is None:
            yield
            return
        self.device.synchronize()
        start = time.perf_counter()
        yield
        self.device.synchronize()
        self.split[name] = self.split.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def adapted(model: Any, from_layer: int = 0) -> Iterator[Any]:
    """The model with adapters on all layers from ``from_layer`` on, which are gone again afterwards."""
    train = TrainSettings(method="lora", from_layer=from_layer, bf16=True)
    wrapped = apply_method(model, train, LoraSettings())
    wrapped.train()
    try:
        yield wrapped
    finally:
        wrapped.unload()  # type: ignore[operator]
        model.requires_grad_(False)


@contextmanager
def layers_of(model: Any, variant: Variant) -> Iterator[None]:
    """Within the block the layers run as the variant says."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention = base.model.config._attn_implementation
    if variant.packed:
        attend_by_sample(model)
    if variant.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    fused = variant.fused and not variant.plain and not variant.compiled
    stance = nullcontext() if variant.chains_compiled else torch.compiler.set_stance("force_eager")
    try:
        with stance, compiled_layers(model, wanted=variant.compiled), fused_layers(model, wanted=fused):
            yield
    finally:
        base.model.config._attn_implementation = attention
        if variant.checkpointing:
            model.gradient_checkpointing_disable()


def flops_of(
    config: Any, size: Size, grids: Sequence[int], examples: Sequence[Any], variant: Variant, train: TrainSettings
) -> float:
    """FLOPs that the arithmetic of these examples asks for, recomputation not counted."""
    total = 0.0
    for grid, example in zip(grids, examples, strict=True):
        trained = int((example["labels"] != IGNORED).sum())
        shown = ExampleSize(len(example["labels"]), size.image_tokens(grid), grid * grid + 1, trained)
        total += example_flops(config, shown, train, LoraSettings(), variant.cached).total
    return total


def profile(step: Callable[[], None], device: Device, most: int = 25) -> list[Mapping[str, Any]]:
    """Where the device's time of one step goes: kernels by their own time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    wanted = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.kind == "cuda" else [])]
    with profiler(activities=wanted) as seen:
        step()
        device.synchronize()
    name = "self_device_time_total" if device.kind == "cuda" else "self_cpu_time_total"
    averages = sorted(seen.key_averages(), key=lambda one: -getattr(one, name))
    return [
        {"kernel": one.key[:110], "ms": round(getattr(one, name) / 1e3, 3), "calls": one.count}
        for one in averages[:most]
        if getattr(one, name) > 0
    ]
