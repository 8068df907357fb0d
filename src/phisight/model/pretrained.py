"""What model and head share, and how weights start that no file brings."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, CLIPVisionEmbeddings
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer, Phi3PreTrainedModel

from phisight.model.configuration import Phi3VConfig
from phisight.model.rope import LongRotaryEmbedding
from phisight.model.vision import ImageEmbedding


class Phi3VisionPreTrainedModel(Phi3PreTrainedModel):
    """What model and head share: configuration, initial values, layers that stay on one device."""

    config_class = Phi3VConfig
    config: Phi3VConfig
    input_modalities = ("image", "text")
    _no_split_modules: ClassVar = [Phi3DecoderLayer.__name__, CLIPEncoderLayer.__name__]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, LongRotaryEmbedding) and module.original_length is not None:
            _fill(module.long_inv_freq, module.long_frequencies())
        elif isinstance(module, CLIPVisionEmbeddings):
            _draw(module.class_embedding, module.embed_dim**-0.5)
            _fill(module.position_ids, torch.arange(module.num_positions).expand(1, -1))
        elif isinstance(module, CLIPAttention):
            _draw(module.out_proj.weight, std / (2 * module.config.num_hidden_layers) ** 0.5)
        elif isinstance(module, ImageEmbedding):
            _draw(module.glb_GN, std)
            _draw(module.sub_GN, std)


def _loaded(parameter: Tensor) -> bool:
    return bool(getattr(parameter, "_is_hf_initialized", False))


def _draw(parameter: Tensor, std: float) -> None:
    if not _loaded(parameter):
        parameter.normal_(0.0, std)


def _fill(buffer: Tensor, values: Tensor) -> None:
    if not _loaded(buffer):
        buffer.copy_(values)
