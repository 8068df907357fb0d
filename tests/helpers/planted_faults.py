"""Faults to plant: small mistakes that leave every shape in order, each of which the comparison must notice.

A fault takes the loaded model, the processor and a ``pytest.MonkeyPatch`` that undoes it. ``FAULTS`` names for each the
official case and our own small case that show it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers.models.phi3 import modeling_phi3

from phisight.core.geometry import HDGrid
from phisight.model import image_processing, modeling
from phisight.model.placeholders import images_of_runs
from phisight.model.processing import Phi3VProcessor
from phisight.model.vision import ImageEmbedding, VisionTransformer

Plant = Callable[[Any, Any, pytest.MonkeyPatch], None]


class Fault(NamedTuple):
    """How to plant it and where it shows."""

    plant: Plant
    official: str
    golden: str


def _put(patch: pytest.MonkeyPatch, module: nn.Module, name: str, value: Any) -> None:
    """Replace a parameter, buffer or submodule; a module keeps those in registries, not as attributes."""
    registries: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, module._modules)
    patch.setitem(next(one for one in registries if name in one), name, value)


def _no_rope(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(modeling_phi3, "apply_rotary_pos_emb", lambda query, key, *_args, **_kwargs: (query, key))


def _factors_swapped(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    rope = model.model.rotary_emb
    short, long = rope.inv_freq, rope.long_inv_freq
    _put(patch, rope, "inv_freq", long)
    _put(patch, rope, "long_inv_freq", short)


def _switch_moved(by: int) -> Plant:
    def plant(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
        rope = model.model.rotary_emb
        patch.setattr(rope, "original_length", rope.original_length + by)

    return plant


def _no_attention_scale(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model.model.rotary_emb, "attention_scaling", 1.0)


def _no_causal_mask(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    def open_mask(inputs_embeds: Tensor, **_kwargs: Any) -> Tensor:
        rows, length = inputs_embeds.shape[:2]
        return inputs_embeds.new_zeros(rows, 1, length, length)

    patch.setattr(modeling_phi3, "create_causal_mask", open_mask)


def _padding_attended(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = modeling_phi3.create_causal_mask
    patch.setattr(modeling_phi3, "create_causal_mask", lambda **kwargs: right(**{**kwargs, "attention_mask": None}))


def _images_swapped(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = images_of_runs
    patch.setattr(modeling, "images_of_runs", lambda *args: right(*args)[::-1])


def _feature_rows_swapped(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = ImageEmbedding.project

    def swapped(self: ImageEmbedding, rows: Tensor) -> Tensor:
        projected = right(self, rows)
        return torch.cat([projected[1:2], projected[:1], projected[2:]])

    patch.setattr(ImageEmbedding, "project", swapped)


def _layer_dropped(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    _put(patch, model.model, "layers", nn.ModuleList(list(model.model.layers)[:-1]))


def _separators_swapped(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    vision = model.model.vision_embed_tokens
    glb, sub = vision.glb_GN, vision.sub_GN
    _put(patch, vision, "glb_GN", nn.Parameter(sub.detach().reshape(glb.shape)))
    _put(patch, vision, "sub_GN", nn.Parameter(glb.detach().reshape(sub.shape)))


def _crops_transposed(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = ImageEmbedding.lay_out

    def transposed(self: ImageEmbedding, features: Tensor, rows: int, columns: int) -> Tensor:
        order = torch.arange(rows * columns).reshape(columns, rows).T.flatten()
        return right(self, torch.cat([features[:1], features[1:][order]]), rows, columns)

    patch.setattr(ImageEmbedding, "lay_out", transposed)


def _thumbnail_first(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = ImageEmbedding.lay_out

    def turned(self: ImageEmbedding, features: Tensor, rows: int, columns: int) -> Tensor:
        laid_out = right(self, features, rows, columns)
        thumbnail = features.shape[1] * (features.shape[1] + 1)
        return torch.cat([laid_out[-thumbnail:], laid_out[-thumbnail - 1 : -thumbnail], laid_out[: -thumbnail - 1]])

    patch.setattr(ImageEmbedding, "lay_out", turned)


def _thumbnail_is_last_crop(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = ImageEmbedding.lay_out

    def rolled(self: ImageEmbedding, features: Tensor, rows: int, columns: int) -> Tensor:
        return right(self, features.roll(1, dims=0), rows, columns)

    patch.setattr(ImageEmbedding, "lay_out", rolled)


def _merged_by_columns(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = ImageEmbedding.tower_features

    def other_order(self: ImageEmbedding, crops: Tensor) -> Tensor:
        top_left, top_right, bottom_left, bottom_right = right(self, crops).chunk(4, dim=-1)
        return torch.cat([top_left, bottom_left, top_right, bottom_right], dim=-1)

    patch.setattr(ImageEmbedding, "tower_features", other_order)


def _sizes_as_width_height(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = ImageEmbedding.grids
    patch.setattr(ImageEmbedding, "grids", lambda self, sizes: right(self, sizes.flip(1)))


def _tower_output(last: int, post_norm: bool = False, first_token: int = 1) -> Plant:
    def plant(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
        def forward(self: VisionTransformer, pixels: Tensor) -> Tensor:
            hidden: Tensor = self.pre_layrnorm(self.embeddings(pixels))
            for layer in list(self.encoder.layers)[: len(self.encoder.layers) + last + 1]:
                hidden = layer(hidden, None)
            if post_norm:
                hidden = self.post_layernorm(hidden)
            return hidden[:, first_token : hidden.shape[1] - 1 + first_token]

        patch.setattr(VisionTransformer, "forward", forward)

    return plant


def _tanh_gelu(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model.model.vision_embed_tokens.img_projection[1], "approximate", "tanh")


def _exact_gelu_in_tower(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    for layer in model.model.vision_embed_tokens.img_processor.vision_model.encoder.layers:
        _put(patch, layer.mlp, "activation_fn", nn.GELU())


def _tower_epsilon(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    for module in model.model.vision_embed_tokens.modules():
        if isinstance(module, nn.LayerNorm):
            patch.setattr(module, "eps", 1e-6)


def _decoder_epsilon(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    for module in model.model.modules():
        if hasattr(module, "variance_epsilon"):
            patch.setattr(module, "variance_epsilon", 1e-6)


def _gate_and_up_swapped(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    for layer in model.model.layers:
        gate, up = layer.mlp.gate_up_proj.weight.detach().chunk(2)
        _put(patch, layer.mlp.gate_up_proj, "weight", nn.Parameter(torch.cat([up, gate])))


def _key_and_value_swapped(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    for layer in model.model.layers:
        query, key, value = layer.self_attn.qkv_proj.weight.detach().chunk(3)
        _put(patch, layer.self_attn.qkv_proj, "weight", nn.Parameter(torch.cat([query, value, key])))


def _no_final_norm(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    _put(patch, model.model, "norm", nn.Identity())


def _labels_not_shifted(model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = model.loss_function
    patch.setattr(
        type(model),
        "loss_function",
        property(lambda _self: lambda logits, labels, **kwargs: right(logits, labels.roll(1, 1), **kwargs)),
    )


def _resized(change: Callable[[Image.Image], Image.Image]) -> Plant:
    """A change to the image before anything else sees it."""

    def plant(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
        right = image_processing.Phi3VImageProcessor._as_rgb
        patch.setattr(image_processing.Phi3VImageProcessor, "_as_rgb", lambda self, image: right(self, change(image)))

    return plant


def _alpha_composited(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA"))


def _black_padding(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(image_processing, "WHITE", 0)


def _portrait_not_mirrored(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = image_processing.scaled_and_padded

    def direct(image: Image.Image, grid: HDGrid) -> NDArray[np.uint8]:
        if not grid.transposed:
            return right(image, grid)
        scaled = image.resize((grid.scaled_height, grid.scaled_width), Image.Resampling.BILINEAR)
        sides = ((0, 0), (grid.pad_top, grid.pad_bottom), (0, 0))
        return np.pad(np.asarray(scaled), sides, constant_values=image_processing.WHITE)

    patch.setattr(image_processing, "scaled_and_padded", direct)


def _antialiased_thumbnail(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    def smooth(planes: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.float32]:
        size = (planes.shape[1] // rows, planes.shape[2] // columns)
        image = torch.from_numpy(planes)[None].float()
        made: NDArray[np.float32] = nn.functional.interpolate(image, size, mode="bicubic", antialias=True)[0].numpy()
        return made

    patch.setattr(image_processing, "bicubic_thumbnail", smooth)


def _one_bos(_model: Any, _processor: Any, patch: pytest.MonkeyPatch) -> None:
    right = Phi3VProcessor.encode

    def without(self: Phi3VProcessor, text: str, image_tokens: Any = (), **options: Any) -> list[int]:
        ids = right(self, text, image_tokens, **options)
        return ids[:1] + [token for token in ids[1:] if token != ids[0]]

    patch.setattr(Phi3VProcessor, "encode", without)


FAULTS = {
    "no rotary positions": Fault(_no_rope, "p3_text_short", "text"),
    "short and long factors swapped": Fault(_factors_swapped, "p3_text_short", "text"),
    "switch to long factors one token early": Fault(_switch_moved(-1), "p3_text_exactly_64", "at_the_switch"),
    "switch to long factors one token late": Fault(_switch_moved(1), "p3_text_65", "past_the_switch"),
    "no attention scale": Fault(_no_attention_scale, "p3_text_short", "text"),
    "no causal mask": Fault(_no_causal_mask, "p3_text_short", "text"),
    "padding attended to": Fault(_padding_attended, "p3_batch_left", "batch_left"),
    "images of two rows swapped": Fault(_images_swapped, "p3_batch_right", "batch_right"),
    "two image features swapped": Fault(_feature_rows_swapped, "p3_img_nc1_full", "image"),
    "decoder layer dropped": Fault(_layer_dropped, "p3_text_short", "text"),
    "separators swapped": Fault(_separators_swapped, "p3_img_nc1_full", "image"),
    "crops laid out by columns": Fault(_crops_transposed, "p35_img1_gen", "image"),
    "thumbnail before the image": Fault(_thumbnail_first, "p35_img1_gen", "image"),
    "last crop taken for the thumbnail": Fault(_thumbnail_is_last_crop, "p35_img1_gen", "image"),
    "2 x 2 merge by columns": Fault(_merged_by_columns, "p3_img_nc1_full", "image"),
    "image_sizes read as (width, height)": Fault(_sizes_as_width_height, "p35_img1_gen_cross", "image"),
    "tower layer -1": Fault(_tower_output(-1), "p3_img_nc1_full", "image"),
    "tower layer -3": Fault(_tower_output(-3), "p3_img_nc1_full", "image"),
    "tower's post-norm applied": Fault(_tower_output(-2, post_norm=True), "p3_img_nc1_full", "image"),
    "class token kept": Fault(_tower_output(-2, first_token=0), "p3_img_nc1_full", "image"),
    "tanh GELU in the projector": Fault(_tanh_gelu, "p3_img_nc1_full", "image"),
    "exact GELU in the tower": Fault(_exact_gelu_in_tower, "p3_img_nc1_full", "image"),
    "tower norm epsilon 1e-6": Fault(_tower_epsilon, "p3_img_nc1_full", "image"),
    "decoder norm epsilon 1e-6": Fault(_decoder_epsilon, "p3_text_short", "text"),
    "gate and up swapped": Fault(_gate_and_up_swapped, "p3_text_short", "text"),
    "key and value swapped": Fault(_key_and_value_swapped, "p3_text_short", "text"),
    "no final norm": Fault(_no_final_norm, "p3_text_short", "text"),
    "labels not shifted": Fault(_labels_not_shifted, "p3_text_short", "text"),
    "EXIF orientation applied": Fault(_resized(ImageOps.exif_transpose), "p35_four_images", "batch_right"),
    "alpha composited": Fault(_resized(_alpha_composited), "p3_img_nc1_full", "batch_right"),
    "black padding": Fault(_black_padding, "p3_img_nc1_full", "image"),
    "portrait resized without mirroring": Fault(_portrait_not_mirrored, "p3_img_nc1_full", "batch_right"),
    "thumbnail antialiased": Fault(_antialiased_thumbnail, "p35_img1_gen", "image"),
    "no BOS after images": Fault(_one_bos, "p3_img_nc1_full", "image"),
}
