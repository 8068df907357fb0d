"""Attention back ends: which ones this machine has, and one for several samples in a row.

``sdpa_by_sample`` is the library's sdpa, except for packed rows (``sample_lengths`` of int, which the collator gives):
there each sample attends to itself alone, causally and without a mask, so time and memory grow with the sum of
T_i x T_i and not with the square of the sum.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from phisight.core.errors import SettingsError

SDPA_BY_SAMPLE = "sdpa_by_sample"
FLASH = ("flash_attention_2", "flash_attention_3")
PACKAGES = {"flash_attention_2": ("flash_attn", "flash-attn"), "flash_attention_3": ("flash_attn_3", "flash-attn-3")}


def require_backend(name: str) -> None:
    """SettingsError when this machine cannot train with an attention back end."""
    if name in FLASH:
        module, package = PACKAGES[name]
        if not torch.cuda.is_available():
            raise SettingsError(f"model.attention {name} needs a GPU and there is none; set model.attention to sdpa")
        if importlib.util.find_spec(module) is None:
            raise SettingsError(
                f"model.attention {name} needs the package {package}, which is not installed; install it, or set "
                "model.attention to sdpa"
            )
    if name == "flex_attention" and not torch.cuda.is_available():
        raise SettingsError(
            "model.attention flex_attention has no backward pass without a GPU; set model.attention to sdpa"
        )


def attend_by_sample(model: Any) -> None:
    """Make a model's decoder ready for packed rows; SettingsError when its back end keeps no samples apart.

    The other back ends read packed rows as they are: flash attention by ``cu_seq_lens``, flex and eager by the mask
    that the library makes of position ids.
    """
    config = (model.get_base_model() if hasattr(model, "get_base_model") else model).model.config
    name = config._attn_implementation
    if name == "sdpa" and config.sliding_window is None:
        config._attn_implementation = SDPA_BY_SAMPLE
    elif name not in (SDPA_BY_SAMPLE, "sdpa", "eager", "flex_attention", *FLASH):
        raise SettingsError(
            f"train.packing needs an attention back end that keeps samples apart, and {name} is not known to; set "
            "model.attention to sdpa, or train.packing to false"
        )


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sample_lengths: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """[1, heads, T, width] of a packed row to [1, T, heads, width]; anything else as sdpa does it."""
    packed = attention_mask is not None and attention_mask.numel() == 0
    if not packed:
        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output
    if sample_lengths is None:
        raise ValueError("a packed row needs sample_lengths beside its position_ids")
    lengths = list(sample_lengths)
    parts = zip(*(torch.split(states, lengths, dim=2) for states in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *part, None, **kwargs)[0] for part in parts], dim=1), None


def _mask(*args: Any, attention_mask: Tensor | None = None, allow_is_causal_skip: bool = True, **kwargs: Any) -> Any:
    """sdpa's mask; of a packed row one without values, which tells ``_attention`` to go sample by sample.

    The library asks for a mask without padding that may not be skipped only where positions start again in a row.
    """
    rows, columns = kwargs["q_length"], kwargs["kv_length"]
    if attention_mask is None and not allow_is_causal_skip and rows == columns and rows > 1:
        return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=kwargs["device"])
    return sdpa_mask(*args, attention_mask=attention_mask, allow_is_causal_skip=allow_is_causal_skip, **kwargs)


AttentionInterface.register(SDPA_BY_SAMPLE, _attention)
AttentionMaskInterface.register(SDPA_BY_SAMPLE, _mask)
