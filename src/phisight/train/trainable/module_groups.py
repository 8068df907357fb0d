"""Parts of the model by the official names of its parameters, and how many parameters of each train.

tower        ...img_processor...
projector    ...img_projection..., ...sub_GN, ...glb_GN
embeddings   model.embed_tokens
decoder      model.layers, model.norm
head         lm_head, number_head
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

PARTS = ("tower", "projector", "embeddings", "decoder", "head")
_LAYER = re.compile(r"(?:^|\.)model\.layers\.(\d+)\.")


def part_of(name: str) -> str:
    """The part of the model that a parameter belongs to."""
    if "img_processor" in name:
        return "tower"
    if "vision_embed_tokens" in name:
        return "projector"
    if "embed_tokens" in name:
        return "embeddings"
    return "head" if "lm_head" in name or "number_head" in name else "decoder"


def layer_of(name: str) -> int | None:
    """Decoder layer of a parameter or module; None outside the layers."""
    match = _LAYER.search(name + ".")
    return int(match[1]) if match and part_of(name) == "decoder" else None


def is_decoder_layer(name: str) -> bool:
    """Whether the name is inside one of the decoder's layers."""
    return layer_of(name) is not None


def is_below(name: str, first_layer: int) -> bool:
    """Whether a parameter is used before decoder layer ``first_layer``; none is when that is 0."""
    if first_layer == 0:
        return False
    layer = layer_of(name)
    if layer is not None:
        return layer < first_layer
    return part_of(name) in ("tower", "projector", "embeddings")


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part."""

    part: str
    trained: int
    frozen: int


def count_parts(model: nn.Module) -> list[PartCount]:
    """Trainable and frozen parameters of each part; their sum is the number of the model's parameters."""
    counts = {part: [0, 0] for part in PARTS}
    for name, parameter in model.named_parameters():
        counts[part_of(name)][0 if parameter.requires_grad else 1] += values_in(parameter)
    return [PartCount(part, trained, frozen) for part, (trained, frozen) in counts.items()]


def values_in(parameter: nn.Parameter) -> int:
    """Number of values of a parameter, quantized ones included."""
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()
