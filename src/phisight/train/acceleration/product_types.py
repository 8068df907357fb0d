"""The number types of a step's matrix products: a guard against float32 where bfloat16 was meant.

A forgotten cast costs time, not correctness: a product in float32 takes two to sixteen times as long on a GPU, and
nothing else tells. So the linear and convolution layers of the first micro-batch are watched: each counts with its
floating-point operations under the type of its weight and that of its result, which is the one that it computed in
(autocast casts operands, and a result comes in their type). The backward pass multiplies in the same types.
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

_LOG = logging.getLogger(__name__)

WARN_FROM = 0.05
"""Share of the operations in float32 above which a run in bfloat16 is warned."""
WATCHED = (nn.Linear, nn.Conv2d)


@dataclass
class ProductTypes:
    """Forward operations of the watched layers by (type of the weight, type of the result)."""

    operations: Counter[tuple[torch.dtype, torch.dtype]] = field(default_factory=Counter)
    largest: dict[torch.dtype, tuple[int, str]] = field(default_factory=dict)
    """The layer with the most operations of each type of result: operations, name."""

    def add(self, name: str, weight: Tensor, result: Tensor) -> None:
        """A layer ``weight`` [out, in, ...] gave ``result``: 2 operations for each weight that an output sums over."""
        operations = 2 * result.numel() * math.prod(weight.shape[1:])
        self.operations[weight.dtype, result.dtype] += operations
        self.largest[result.dtype] = max(self.largest.get(result.dtype, (0, "")), (operations, name))

    def share(self, dtype: torch.dtype) -> float:
        """Share of the operations whose result is of a type; 0 where nothing was watched."""
        whole = self.operations.total()
        return sum(count for (_, result), count in self.operations.items() if result == dtype) / whole if whole else 0.0

    def describe(self, device: torch.device) -> str:
        """One line: types of weights and products with their shares, and the type that sums are kept in."""
        whole = self.operations.total()
        if not whole:
            return "The first step's products could not be watched: no linear layer was called by itself."
        parts = [
            f"{count / whole:.1%} in {_name(result)} (weights {_name(weight)})"
            for (weight, result), count in self.operations.most_common()
        ]
        return f"Products of the first step: {', '.join(parts)}; summed in {_summed(device)}."

    def warning(self, *, bf16: bool) -> str | None:
        """What to say of a run that was asked to compute in bfloat16 and does not; None where all is as asked."""
        share = self.share(torch.float32)
        if not bf16 or share <= WARN_FROM:
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
        def hook(_layer: nn.Module, _inputs: tuple[object, ...], result: Tensor) -> None:
            weight = layer.weight
            if isinstance(weight, Tensor) and weight.is_floating_point():  # weights of 4 bits say nothing
                found.add(name, weight, result)

        return layer.register_forward_hook(hook)

    hooks = [watch(name, layer) for name, layer in model.named_modules() if isinstance(layer, WATCHED)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


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
