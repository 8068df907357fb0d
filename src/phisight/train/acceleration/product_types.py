"""The number types of a step's matrix products: a guard against float32 where bfloat16 was meant.

A forgotten cast costs time, not correctness: a product in float32 takes two to sixteen times as long on a GPU, and
nothing else tells. So the linear and convolution layers of the first micro-batch are watched: each counts with its
floating-point operations under the types of its parameter, of the activation it is given, and of its result, which is
the one that it computed in (autocast casts operands, and a result comes in their type). The backward pass multiplies in
the same types. Layers that are not called by themselves (fused ones) are named as not watched.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phisight.core.errors import some

_LOG = logging.getLogger(__name__)

WARN_FROM = 0.05
"""Share of the operations in float32 above which a run in bfloat16 is warned."""
MOST_UNWATCHED = 0.5
"""Share of the weights in layers that were not watched above which the others say nothing of the step."""
WATCHED = (nn.Linear, nn.Conv2d)


@dataclass
class ProductTypes:
    """Forward operations of the watched layers by type of (parameter, activation, result)."""

    operations: Counter[tuple[torch.dtype, torch.dtype, torch.dtype]] = field(default_factory=Counter)
    largest: dict[torch.dtype, tuple[int, str]] = field(default_factory=dict)
    """The layer with the most operations of each type of result: operations, name."""
    unwatched: list[str] = field(default_factory=list)
    """Layers that were not called by themselves."""
    unwatched_weights: float = 0.0
    """Their share of the weights of all layers."""

    def add(self, name: str, weight: Tensor, activation: Tensor, result: Tensor) -> None:
        """A layer ``weight`` [out, in, ...] made ``result`` of ``activation``: 2 operations a weight and output."""
        operations = 2 * result.numel() * math.prod(weight.shape[1:])
        self.operations[weight.dtype, activation.dtype, result.dtype] += operations
        self.largest[result.dtype] = max(self.largest.get(result.dtype, (0, "")), (operations, name))

    def share(self, dtype: torch.dtype) -> float:
        """Share of the operations whose result is of a type; 0 where nothing was watched."""
        whole = self.operations.total()
        return (
            sum(count for (_, _, result), count in self.operations.items() if result == dtype) / whole if whole else 0.0
        )

    def describe(self, device: torch.device) -> str:
        """One line: types of weights and products with their shares, and the type that sums are kept in."""
        whole = self.operations.total()
        left_out = ""
        if self.unwatched:
            left_out = (
                f" Not watched: {len(self.unwatched)} layers with {self.unwatched_weights:.0%} of the weights "
                f"({some(self.unwatched, 1)}), not called by themselves: fused, in 4 bits, cached or unused."
            )
        if not whole or self.unwatched_weights > MOST_UNWATCHED:
            return f"The first step's products could not be watched.{left_out}"
        parts = [
            f"{count / whole:.1%} in {_name(result)} (parameter {_name(weight)}, activation {_name(activation)})"
            for (weight, activation, result), count in self.operations.most_common()
        ]
        return f"Products of the first step: {', '.join(parts)}; accumulated in {_summed(device)}.{left_out}"

    def warning(self, *, bf16: bool) -> str | None:
        """What to say of a run that was asked to compute in bfloat16 and does not; None where all is as asked.

        None, too, where most of the weights belong to layers that were not watched: the share says nothing of those.
        """
        share = self.share(torch.float32)
        if not bf16 or share <= WARN_FROM or self.unwatched_weights > MOST_UNWATCHED:
            return None
        _, name = self.largest[torch.float32]
        return (
            f"{share:.0%} of the first step's products are taken in float32 (most in {name}), although bfloat16 was "
            "asked for: the run takes longer than it has to; look for a layer that casts its input to float32"
        )


@contextmanager
def watched_products(model: nn.Module) -> Iterator[ProductTypes]:
    """Count the products of all linear and convolution layers that are called within."""
    found = ProductTypes()

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_layer: nn.Module, inputs: tuple[object, ...], result: Tensor) -> None:
            weight = layer.weight
            activation = inputs[0] if inputs else None
            if isinstance(weight, Tensor) and weight.is_floating_point():  # weights of 4 bits say nothing
                found.add(name, weight, activation if isinstance(activation, Tensor) else result, result)
                called.add(name)

        return layer.register_forward_hook(hook)

    called: set[str] = set()
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, WATCHED)}
    hooks = [watch(name, layer) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    found.unwatched = [name for name in layers if name not in called]
    found.unwatched_weights = sum(sizes[name] for name in found.unwatched) / max(1, sum(sizes.values()))


@contextmanager
def reported_products(
    model: nn.Module, device: torch.device, notify: Callable[[str], None], *, bf16: bool
) -> Iterator[None]:
    """Say afterwards in which types layers called within have multiplied; ``bf16`` is whether that was asked for."""
    with watched_products(model) as products:
        yield
    notify(products.describe(device))
    if warning := products.warning(bf16=bf16):
        _LOG.warning("%s", warning)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _summed(device: torch.device) -> str:
    """Where sums of bfloat16 products are kept: kernels sum in float32 and may add partial sums in bfloat16."""
    reduced = device.type == "cuda" and torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    return "float32 (partial sums may be added in bfloat16)" if reduced else "float32"
