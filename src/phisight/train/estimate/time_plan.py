"""Estimate of a run's time: FLOPs over what the device computes, plus bytes over what its memory moves.

    seconds of a step = FLOPs / (matrix rate x efficiency) + bytes / bandwidth

    FLOPs    forward, gradients of inputs and of trainable weights by part (flops.py), recomputation on top;
             padding computes as tokens do; nothing of what is read from a cache
    bytes    weights, read once for each pass of a micro-batch; the optimizer's seven reads and writes of what trains

A cache's first filling is added once. Not counted: evaluation, checkpoints, start-up, waiting for data.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from phisight.core.dataset_folder import HEIGHT, WIDTH
from phisight.core.geometry import hd_grid
from phisight.core.settings import Recipe
from phisight.data.dataset.image_groups import images_of
from phisight.train.acceleration.fused_linear import product
from phisight.train.estimate.cards import ASSUMED_EFFICIENCY, Card
from phisight.train.estimate.flops import PARTS, Cached, ExampleFlops, ExampleSize, example_flops
from phisight.train.estimate.measured_shares import Measured
from phisight.train.estimate.memory_plan import Memory

clock = time.perf_counter
"""Seconds; a benchmark puts the process's CPU time here."""
CPU_EFFICIENCY = 0.56
"""Share of a CPU's measured matrix rate that steps reach; see benchmarks/plan_time.py."""
OPTIMIZER_PASSES = 7
"""AdamW reads weight, gradient and both moments, and writes weight and both moments."""


@dataclass(frozen=True)
class Speed:
    """What a device does in a second."""

    name: str
    flops: float
    """FLOP/s that training reaches: matrix rate x efficiency."""
    bytes: float
    """Bytes per second of its memory."""
    memory: float
    """Bytes of its memory; infinite where the machine's own memory is meant."""
    source: str
    """Where the figures come from."""


def speed_of(card: Card, *, bf16: bool, measured: Measured | None = None) -> Speed:
    """A card by its data sheet, computing in bfloat16 or in float32, at a measured share of its rate or the assumed."""
    origin, share = "assumed", ASSUMED_EFFICIENCY
    if measured is not None and bf16:
        origin, share = measured.note, measured.teraflops * measured.recomputed / card.teraflops
    rate = card.teraflops if bf16 else card.float32_teraflops
    return Speed(
        card.name,
        rate * 1e12 * share,
        card.gigabytes_per_s * 1e9,
        card.gigabytes * 1e9,
        f"{rate:g} TFLOP/s in {'bfloat16' if bf16 else 'float32'} x {share:.2f} {origin}",
    )


def speed_of_this_cpu(config: Any, *, bf16: bool, tokens: int = 512) -> Speed:
    """This machine's CPU, by half a second of the model's own products and a copy."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    D, F = config.hidden_size, config.intermediate_size  # noqa: N806
    rows, weight = torch.randn(tokens, D, dtype=dtype), torch.randn(D, 2 * F, dtype=dtype)
    product(rows, weight)
    flops, seconds = 0.0, 0.0
    while seconds < 0.4:
        start = clock()
        product(rows, weight)
        seconds += clock() - start
        flops += 2.0 * tokens * D * 2 * F
    source = torch.ones(2**24)
    target = torch.empty_like(source)
    target.copy_(source)
    start = clock()
    target.copy_(source)
    moved = 2 * source.nbytes / (clock() - start)
    rate = flops / seconds
    return Speed(
        "this CPU", rate * CPU_EFFICIENCY, moved, float("inf"), f"{rate / 1e9:.0f} GFLOP/s measured x {CPU_EFFICIENCY}"
    )


@dataclass(frozen=True)
class Work:
    """What one epoch asks of a device."""

    flops: float
    """As ``ExampleFlops.total``, padding included: neither recomputation nor gradients of frozen weights."""
    executed: float
    """With recomputation."""
    filling: float
    """FLOPs that fill the cache, once for a run."""
    parts: dict[str, float]
    """``flops`` by part of the model."""
    examples: int


def example_sizes(
    rows: Sequence[Mapping[str, Any]],
    lengths: Sequence[int],
    image_tokens: Sequence[Sequence[int]],
    trained: Sequence[int],
    num_crops: int,
    crop_size: int,
) -> list[ExampleSize]:
    """What each row's arithmetic depends on; an image of one tile is computed once and used twice."""
    sizes = []
    for row, length, tokens, labeled in zip(rows, lengths, image_tokens, trained, strict=True):
        tiles = [hd_grid(one[WIDTH], one[HEIGHT], num_crops, crop_size).tiles for one in images_of(row)]
        crops = sum(1 if count == 1 else count + 1 for count in tiles)
        sizes.append(ExampleSize(length, sum(tokens), crops, labeled))
    return sizes


def work_of(config: Any, sizes: Sequence[ExampleSize], recipe: Recipe, cached: Cached, padding: float) -> Work:
    """FLOPs of one epoch; ``padding`` is its share of all tokens."""
    counts = Counter(sizes)
    found = [(example_flops(config, one, recipe.train, recipe.lora, cached), count) for one, count in counts.items()]
    padded = 1.0 if recipe.train.packing else 1.0 / (1.0 - padding)
    parts = {name: _sum(found, name) * (padded if name in ("decoder", "adapters") else 1.0) for name in PARTS}
    recomputed = sum(count * (one.executed - one.total) for one, count in found) * padded
    return Work(
        flops=sum(parts.values()),
        executed=sum(parts.values()) + recomputed,
        filling=_filling(config, counts, recipe, cached),
        parts=parts,
        examples=len(sizes),
    )


def _sum(found: Sequence[tuple[ExampleFlops, int]], part: str) -> float:
    return sum(count * (one.parts[part].forward + one.parts[part].backward) for one, count in found)


def _filling(config: Any, counts: Mapping[ExampleSize, int], recipe: Recipe, cached: Cached) -> float:
    """Forward FLOPs of what the cache holds, for each example once."""
    if cached == "nothing":
        return 0.0
    total = 0.0
    for one, count in counts.items():
        computed = example_flops(config, one, recipe.train, recipe.lora)
        read = example_flops(config, one, recipe.train, recipe.lora, cached)
        total += count * sum(computed.parts[name].forward - read.parts[name].forward for name in PARTS)
    return total


@dataclass(frozen=True)
class Duration:
    """How long a run takes on a device."""

    seconds_per_step: float
    hours: float
    tokens_per_s: float
    examples_per_s: float


def duration_of(
    speed: Speed, work: Work, recipe: Recipe, memory: Memory, *, steps: int, tokens_per_example: float
) -> Duration:
    """Seconds of a step and hours of a run."""
    train = recipe.train
    examples = train.batch_size * train.accumulate
    passes = (3 if train.gradient_checkpointing else 2) * train.accumulate
    moved = passes * memory.weights + OPTIMIZER_PASSES * memory.gradients
    step = examples * work.executed / work.examples / speed.flops + moved / speed.bytes
    whole = steps * step + work.filling / speed.flops
    return Duration(step, whole / 3600, examples * tokens_per_example / step, examples / step)


def with_train(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other settings of ``train``."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})
