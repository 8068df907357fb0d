"""Attention back ends: which ones this machine has, one for packed rows; the model inside adapters, part of its layers.

``sdpa_by_sample`` is the library's sdpa, except for packed rows (``sample_lengths`` of int, which the collator gives):
there each sample attends to itself alone, causally and without a mask, so time and memory grow with the sum of
T_i x T_i and not with the square of the sum.

Shapes: B batch, T text position, D decoder width, N heads, H head width
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    AttentionMaskInterface,
    create_causal_mask,
    create_sliding_window_causal_mask,
    sdpa_mask,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb, eager_attention_forward

from phisight.core.errors import SettingsError
from phisight.model.loss import IGNORED

SDPA_BY_SAMPLE = "sdpa_by_sample"
QUERIES_FROM = "queries_from"
"""Argument of a last layer: the first position that is wanted. A forward function that reads it has it as attribute."""
FLASH = ("flash_attention_2", "flash_attention_3")
PACKAGES = {
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}
"""Back end -> the module that transformers imports for it, and the package that brings it."""


def require_backend(name: str) -> None:
    """Raise SettingsError when this machine cannot train with an attention back end."""
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


def inside_adapters(model: Any) -> Any:
    """The model inside PEFT's wrapper, whose adapters stay active in it; a model without one as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def attend_by_sample(model: Any) -> None:
    """Prepare the decoder for packed rows; SettingsError when its back end cannot separate the samples of a row.

    The other back ends read packed rows as they are: flash attention by ``cu_seq_lens``, flex and eager by the mask
    that the library makes of position ids.
    """
    config = inside_adapters(model).model.config
    name = config._attn_implementation
    if name == "sdpa" and config.sliding_window is None:
        config._attn_implementation = SDPA_BY_SAMPLE
    elif name not in (SDPA_BY_SAMPLE, "sdpa", "eager", "flex_attention", *FLASH):
        raise SettingsError(
            f"train.packing needs an attention back end that separates packed samples, and {name} is not known to; set "
            "model.attention to sdpa, or train.packing to false"
        )


def run_layers(
    decoder: Any,
    hidden_BTD: Tensor,
    first: int,
    last: int,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """Hidden states before layer ``first`` to those before layer ``last``, without the final norm.

    Source: the loop of the library's ``Phi3Model.forward``, without a key-value cache.
    """
    if position_ids is None:
        position_ids = torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device)[None]
    shared = _shared_by_layers(decoder, hidden_BTD, attention_mask, position_ids)
    for layer in decoder.layers[first:last]:
        hidden_BTD = layer(hidden_BTD, **shared, use_cache=False, **kwargs)
    return hidden_BTD


def run_to_last_position(
    decoder: Any, embeds_BTD: Tensor, attention_mask: Tensor, position_ids: Tensor, cache: Cache
) -> Tensor:
    """Hidden states [B, D] of the last position of each row, after the final norm; for prompts, in evaluation mode.

    Keys and values of all positions go into ``cache``, which has none before. Nobody reads what the last layer makes
    of the positions before the last one, so it attends and goes on for that one alone.

    Source: ``Phi3Model.forward`` and its layers.
    """
    shared = _shared_by_layers(decoder, embeds_BTD, attention_mask, position_ids)
    *before, last = decoder.layers
    hidden_BTD = embeds_BTD
    for layer in before:
        hidden_BTD = layer(hidden_BTD, **shared, use_cache=True, past_key_values=cache)
    hidden_B1D = layer_from(last, hidden_BTD, hidden_BTD.shape[1] - 1, **shared, past_key_values=cache)
    return cast(Tensor, decoder.norm(hidden_B1D)[:, 0])


def layer_from(layer: Any, hidden_BTD: Tensor, first: int, **shared: Any) -> Tensor:
    """A decoder layer's [B, T - first, D] for the positions from ``first`` on, which attend to those before, too.

    Source: the library's ``Phi3DecoderLayer.forward``.
    """
    attended = _attend_from(layer.self_attn, layer.input_layernorm(hidden_BTD), first, **shared)
    hidden_BTD = hidden_BTD[:, first:] + layer.resid_attn_dropout(attended)
    return hidden_BTD + cast(Tensor, layer.resid_mlp_dropout(layer.mlp(layer.post_attention_layernorm(hidden_BTD))))


def labeled_queries(decoder: Any, labels_BT: Tensor | None, **kwargs: Any) -> dict[str, int]:
    """Argument of the layers by which a last layer that can leaves out positions before the first label."""
    able = hasattr(decoder.layers[-1].forward, QUERIES_FROM) and "sample_lengths" not in kwargs
    if labels_BT is None or not able or decoder.config._attn_implementation not in ("eager", "sdpa"):
        return {}
    labeled = labels_BT[:, 1:].ne(IGNORED).any(dim=0).nonzero()
    return {QUERIES_FROM: int(labeled[0])} if len(labeled) else {}


def run_step(decoder: Any, embeds_B1D: Tensor, attention_mask: Tensor, position_ids: Tensor, cache: Cache) -> Tensor:
    """Hidden states [B, D] of one new token a row, after the final norm.

    ``attention_mask`` [B, 1, 1, keys] goes to the layers as it is: 0 where a key is seen.

    Source: ``Phi3Model.forward``.
    """
    cos_sin = decoder.rotary_emb(embeds_B1D, position_ids=position_ids)
    hidden_B1D = embeds_B1D
    for layer in decoder.layers:
        hidden_B1D = layer(
            hidden_B1D,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            position_embeddings=cos_sin,
        )
    return cast(Tensor, decoder.norm(hidden_B1D)[:, 0])


def _attend_from(
    attention: Any,
    normed_BTD: Tensor,
    first: int,
    *,
    attention_mask: Tensor | None,
    position_embeddings: tuple[Tensor, Tensor],
    past_key_values: Cache | None = None,
    **_: Any,
) -> Tensor:
    """[B, T - first, D]: what the positions from ``first`` on attend to, among the keys and values of all.

    Of rows without a cache before them, so that there are as many keys as positions.
    """
    config, rows = attention.config, normed_BTD.shape[1]
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    qkv = attention.qkv_proj(normed_BTD).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    q_BNTH, k_BNTH, v_BNTH = qkv.split([heads, key_heads, key_heads], dim=1)
    q_BNTH, k_BNTH = apply_rotary_pos_emb(q_BNTH, k_BNTH, *position_embeddings)
    if past_key_values is not None:
        k_BNTH, v_BNTH = past_key_values.update(k_BNTH, v_BNTH, attention.layer_idx)
    mask = None if attention_mask is None else attention_mask[:, :, first:]
    if mask is None and rows - first > 1:  # without a mask sdpa takes query n to be position n
        mask = torch.ones(rows - first, rows, dtype=torch.bool, device=normed_BTD.device).tril(first)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention_forward)
    dropout = attention.attention_dropout if attention.training else 0.0
    output, _weights = attend(
        attention, q_BNTH[:, :, first:], k_BNTH, v_BNTH, mask, dropout=dropout, scaling=attention.scaling
    )
    return cast(Tensor, attention.o_proj(output.flatten(2)))


def _shared_by_layers(
    decoder: Any, hidden_BTD: Tensor, attention_mask: Tensor | None, position_ids: Tensor
) -> dict[str, Any]:
    """What all layers are given: the mask of rows without a cache (None where none is needed), positions, angles."""
    make_mask = create_causal_mask if decoder.config.sliding_window is None else create_sliding_window_causal_mask
    mask = make_mask(
        config=decoder.config,
        inputs_embeds=hidden_BTD,
        attention_mask=attention_mask,
        past_key_values=None,
        position_ids=position_ids,
    )
    cos_sin = decoder.rotary_emb(hidden_BTD, position_ids=position_ids)
    return {"attention_mask": mask, "position_ids": position_ids, "position_embeddings": cos_sin}


def _attention(
    module: torch.nn.Module,
    q_BNTH: Tensor,
    k_BNTH: Tensor,
    v_BNTH: Tensor,
    attention_mask: Tensor | None,
    sample_lengths: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """[B, T, N, H]: a packed row (B = 1) sample by sample, anything else as sdpa does it."""
    packed = attention_mask is not None and attention_mask.numel() == 0
    if not packed:
        output: tuple[Tensor, None] = sdpa_attention_forward(module, q_BNTH, k_BNTH, v_BNTH, attention_mask, **kwargs)
        return output
    if sample_lengths is None:
        raise ValueError("a packed row needs sample_lengths beside its position_ids")
    lengths = list(sample_lengths)
    samples = zip(*(torch.split(states, lengths, dim=2) for states in (q_BNTH, k_BNTH, v_BNTH)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *one, None, **kwargs)[0] for one in samples], dim=1), None


def _mask(*args: Any, attention_mask: Tensor | None = None, allow_is_causal_skip: bool = True, **kwargs: Any) -> Any:
    """The mask of sdpa; of a packed row an empty one, which tells ``_attention`` to go sample by sample.

    The library requests a mask without padding that must not be skipped only where positions restart within a row.
    """
    rows, columns = kwargs["q_length"], kwargs["kv_length"]
    if attention_mask is None and not allow_is_causal_skip and rows == columns and rows > 1:
        return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=kwargs["device"])
    return sdpa_mask(*args, attention_mask=attention_mask, allow_is_causal_skip=allow_is_causal_skip, **kwargs)


AttentionInterface.register(SDPA_BY_SAMPLE, _attention)
AttentionMaskInterface.register(SDPA_BY_SAMPLE, _mask)
