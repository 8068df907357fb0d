"""Estimate of a run: tokens, steps and memory, from image sizes in the table and shapes of the model.

    peak = weights + optimizer + the larger of (activations + head) and gradients
                                 (their sum with gradient accumulation: gradients outlive the backward pass)

Activations are what autograd saves for the backward pass, counted tensor by tensor for scaled dot-product attention and
fused layers (a decoder layer in float32: 11 D + 2 F values per token when everything trains) and the gradients within
one MLP. Not counted: the interpreter and libraries, workspaces of kernels, fragmentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from torch import nn

from phisight.core.dataset_folder import HEIGHT, WIDTH
from phisight.core.geometry import hd_grid, image_tokens
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe
from phisight.data.dataset.image_groups import images_of
from phisight.train.acceleration.patch import fuses
from phisight.train.examples.sampler import LengthSampler, padding_share
from phisight.train.trainable.module_groups import is_decoder_layer, part_of

FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per value in NF4: blocks of 64 share a scale of 8 bits, 256 scales one of 32 (QLoRA, section 3)."""
FLOAT32 = 4
"""Bytes; norms and the loss are computed in float32 whatever the weights are."""


@dataclass(frozen=True)
class ImageTokens:
    """Image tokens of a data set at one limit of crops."""

    num_crops: int
    median: int
    largest: int


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch: its examples are all as long as the longest."""

    examples: int
    tokens: int
    """Tokens of one example."""
    trained: int
    """Trained tokens of one example."""
    crops: int
    """Crops of one example, the thumbnail included."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a method on one device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    accumulates: bool

    @property
    def peak(self) -> int:
        """Most bytes at one time."""
        saved, gradients = self.activations + self.head, self.gradients
        return self.weights + self.optimizer + (saved + gradients if self.accumulates else max(saved, gradients))


def image_token_table(rows: Sequence[Mapping[str, Any]], limits: Sequence[int], crop_size: int) -> list[ImageTokens]:
    """Median and largest count of image tokens at each limit of crops."""
    table = []
    for limit in sorted(set(limits)):
        counts = [image_tokens(one[WIDTH], one[HEIGHT], limit, crop_size) for row in rows for one in images_of(row)]
        table.append(ImageTokens(limit, round(median(counts)), max(counts)))
    return table


def largest_batch(
    rows: Sequence[Mapping[str, Any]], lengths: Sequence[int], trained: Sequence[int], recipe: Recipe, processor: Any
) -> Batch:
    """The largest micro-batch, which decides the peak."""
    limit = recipe.model.num_crops or processor.image_processor.num_crops
    crop_size = processor.image_processor.crop_size
    crops = [
        sum(hd_grid(one[WIDTH], one[HEIGHT], limit, crop_size).tiles + 1 for one in images_of(row)) for row in rows
    ]
    return Batch(min(recipe.train.batch_size, len(rows)), max(lengths), max(trained), max(crops))


def memory_of(model: nn.Module, config: Any, batch: Batch, recipe: Recipe) -> Memory:
    """Bytes of ``model`` in training; ``requires_grad`` says what trains, and parameters may be on the meta device."""
    weights = sum(stored_bytes(name, parameter, recipe.train.method) for name, parameter in model.named_parameters())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    item = max(parameter.element_size() for parameter in model.parameters())
    logits = batch.examples * batch.trained * config.vocab_size
    return Memory(
        weights=weights,
        gradients=trained,
        optimizer=2 * trained,
        activations=_decoder(model, config, batch, recipe, item) + _tower(model, config, batch, recipe, item),
        head=logits * (item + 2 * FLOAT32),
        accumulates=recipe.train.accumulate > 1,
    )


def stored_bytes(name: str, parameter: nn.Parameter, method: str) -> int:
    """Bytes of a parameter; with qlora the decoder's matrices have 4 bits and their scales 8."""
    if method == "qlora" and is_decoder_layer(name) and parameter.ndim == 2 and not parameter.requires_grad:
        return round(parameter.numel() * FOUR_BITS)
    return parameter.nbytes


def _decoder(model: nn.Module, config: Any, batch: Batch, recipe: Recipe, item: int) -> int:
    """Bytes autograd saves in the decoder: all its layers, or their inputs and one layer with checkpointing."""
    rows = batch.examples * batch.tokens
    D, F, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads  # noqa: N806
    keys = D * config.num_key_value_heads // heads
    adapted = any("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    full = any(p.requires_grad for name, p in model.named_parameters() if part_of(name) == "decoder" and not adapted)
    attended = D + keys + (D + 2 * keys)  # rotated queries and keys, and the projection
    values = attended + D + 2 * F  # output of attention, gate and up
    if adapted or full:
        attended += D
        values += 3 * D  # inputs of the linear layers but the last one's, which is recomputed
    if not _fused(recipe):
        values += 2 * F  # the activated gate, and its product with up
    if recipe.train.method == "dora":
        values += 2 * (3 * D + 2 * keys + 2 * F)  # both summands of each adapted output, to scale them
    if config._attn_implementation == "eager":
        values += heads * batch.tokens
    layer: int = rows * (values * item + 2 * D * FLOAT32)  # and inputs of both norms
    within = rows * 4 * F * item if _fused(recipe) else 0  # gradients of one MLP's product, gate and up, and a factor
    layers = int(config.num_hidden_layers) - recipe.train.from_layer
    if recipe.train.gradient_checkpointing:
        return layer + within + layers * rows * int(D) * item
    if not _trims(config, recipe):
        return layer * layers + within
    # The last layer attends to all positions, and goes on for those from the first label on.
    kept = batch.examples * min(batch.tokens, batch.trained + 1)
    last = rows * (attended * item + D * FLOAT32) + kept * ((values - attended) * item + D * FLOAT32)
    return int(layer * (layers - 1) + max(last + within * kept // rows, within))


def _trims(config: Any, recipe: Recipe) -> bool:
    """Whether the last layer leaves out positions before the first label; see ``train/acceleration/patch.py``."""
    backs = ("eager", "sdpa")
    return _fused(recipe) and not recipe.train.packing and config._attn_implementation in backs


def _fused(recipe: Recipe) -> bool:
    """Whether MLPs run fused; see ``train/acceleration/patch.py``."""
    plain_adapters = recipe.train.method == "lora" and not recipe.lora.dropout
    return fuses(recipe.train) and (plain_adapters or recipe.train.method in ("full", "projector"))


def _tower(model: nn.Module, config: Any, batch: Batch, recipe: Recipe, item: int) -> int:
    """Bytes autograd saves in a tower that trains; nothing in a frozen one."""
    if not any(p.requires_grad for name, p in model.named_parameters() if part_of(name) == "tower"):
        return 0
    vision = config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    # both norms in and out, queries, keys, values, output of attention; the MLP between its layers, unfused three times
    values = 8 * vision.hidden_size + (1 if _fused(recipe) else 3) * vision.intermediate_size
    return int(batch.examples * batch.crops * patches * values * item * (vision.num_hidden_layers - 1))


def expected_padding(lengths: Sequence[int], recipe: Recipe) -> float:
    """Share of padding in the first epoch, one process."""
    step = recipe.train.batch_size * recipe.train.accumulate
    sampler = LengthSampler(lengths, step, named_seed(recipe.seed, "order") % 2**32)
    return padding_share(sampler.lengths, np.array(list(sampler)), recipe.train.batch_size)
