"""The decoder's linear layers in 4 bits (NF4 with double quantization: QLoRA's) or 8, all else unchanged.

The model is loaded and compared with its file in full precision, on the CPU; layers are quantized as they move to the
GPU, which therefore never holds full-precision ones.

Sources: Dettmers et al. 2023, QLoRA, sections 3 and 5; Dettmers et al. 2022, LLM.int8; kernels of bitsandbytes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import nn

from phisight.core.errors import SettingsError
from phisight.train.trainable.module_groups import is_decoder_layer

Quantization = Literal["8bit", "4bit"]
OUTLIER = 6.0
"""Inputs beyond it are multiplied in full precision in 8-bit layers."""


def quantizer(quantization: Quantization, asked_by: str) -> Callable[[Any], Any]:
    """What turns a model's decoder into one of 4 or 8 bits, for prediction."""

    def transform(model: Any) -> Any:
        bnb = _bitsandbytes(asked_by, "leave it out")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at every layer that 8 bits need float16
        make = _quantized if quantization == "4bit" else _eight_bits
        return _with_layers(model, lambda linear: make(bnb, linear))

    return transform


def quantize_decoder(model: Any) -> Any:
    """Replace the decoder's linear layers by 4-bit ones of the same names, computing in the dtype of the model.

    [Contract] Called before the model moves to its device. SettingsError without bitsandbytes.
    """
    bnb = _bitsandbytes()
    _with_layers(model, lambda linear: _quantized(bnb, linear))
    model.is_loaded_in_4bit = True  # PEFT reads this attribute
    return model


def _with_layers(model: Any, layer_for: Callable[[nn.Linear], nn.Module]) -> Any:
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and is_decoder_layer(name):
            model.set_submodule(name, layer_for(module))
    return model


def merge_quantized(model: Any) -> Any:
    """Merge the adapters of a 4-bit model into full-precision layers: weight = dequantized + update, in float32."""
    bnb = _bitsandbytes()
    base = model.get_base_model()
    for name, module in list(base.named_modules()):
        if isinstance(getattr(module, "base_layer", None), bnb.nn.Linear4bit):
            weight = _dequantized(bnb, module.base_layer) + module.get_delta_weight(module.active_adapters[0])
            base.set_submodule(name, _linear(weight))
    for name, module in list(base.named_modules()):
        if isinstance(module, bnb.nn.Linear4bit):
            base.set_submodule(name, _linear(_dequantized(bnb, module)))
    base.is_loaded_in_4bit = False
    return model.merge_and_unload()


def _bitsandbytes(asked_by: str = "train.method qlora", instead: str = "take lora") -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bitsandbytes
    except ImportError as error:
        raise SettingsError(
            f"{asked_by} needs bitsandbytes ({error}); pip install 'phisight[quantize]', or {instead}"
        ) from error
    return bitsandbytes


def _quantized(bnb: Any, linear: nn.Linear) -> nn.Module:
    quantized = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=linear.weight.dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    # On some CPUs a forward pass in evaluation would permanently repack the weights for a kernel without gradient.
    quantized.support_avx512bf16_for_cpu = False
    quantized.weight = bnb.nn.Params4bit(
        linear.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=quantized
    )
    if linear.bias is not None:
        quantized.bias = linear.bias
    return cast(nn.Module, quantized)


def _eight_bits(bnb: Any, linear: nn.Linear) -> nn.Module:
    """Weights in 8 bits by rows, inputs too but for their outliers (LLM.int8)."""
    quantized = bnb.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        has_fp16_weights=False,
        threshold=OUTLIER,
        device="meta",
    )
    quantized.weight = bnb.nn.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
    if linear.bias is not None:
        quantized.bias = linear.bias
    return cast(nn.Module, quantized)


def _dequantized(bnb: Any, layer: Any) -> torch.Tensor:
    weight: torch.Tensor = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight.float()


def _linear(weight: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear
