"""torch.compile for the layers of decoder and tower, in place.

Layers of a kind are alike, so one compilation serves all of them, and parameter names do not change. What is between
them (image placeholders, grids of tiles) depends on the data and would break the graph of a whole model at every image.
Shapes are dynamic: another length does not recompile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from phisight.model.attention import inside_adapters

BACKEND = "inductor"


@contextmanager
def compiled_layers(model: Any, *, wanted: bool) -> Iterator[None]:
    """Inside the block the layers run compiled, if wanted."""
    layers = _layers(model) if wanted else []
    for layer in layers:
        layer.forward = torch.compile(layer.forward, backend=BACKEND, dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the one of its class shows again


def eager_layers() -> Any:
    """Inside the block compiled layers run eagerly: for evaluation, whose shapes keep changing."""
    return torch.compiler.set_stance("force_eager")


def _layers(model: Any) -> list[nn.Module]:
    base = inside_adapters(model)
    tower = base.model.vision_embed_tokens.img_processor.vision_model.encoder
    return [*base.model.layers, *tower.layers[:-1]]
