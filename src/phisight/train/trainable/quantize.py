"""QLoRA's frozen weights: the decoder's linear layers in 4 bits (NF4 with double quantization), all else unchanged.

The model is loaded and compared with its file in full precision, on the CPU; layers are quantized as they move to the
GPU, which therefore never holds full-precision ones.

Source: Dettmers et al. 2023, QLoRA, sections 3 and 5; kernels of bitsandbytes.
"""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import nn

from phisight.core.errors import SettingsError
from phisight.train.trainable.module_groups import is_decoder_layer


def quantize_decoder(model: Any) -> Any:
    """Replace the decoder's linear layers by 4-bit ones of the same names, computing in the dtype of the model.

    [Contract] Called before the model moves to its device. SettingsError without bitsandbytes.
    """
    bnb = _bitsandbytes()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and is_decoder_layer(name):
            model.set_submodule(name, _quantized(bnb, module))
    model.is_loaded_in_4bit = True  # PEFT reads this attribute
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


def _bitsandbytes() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bitsandbytes
    except ImportError as error:
        raise SettingsError(
            f"train.method qlora needs bitsandbytes ({error}); pip install 'phisight[quantize]', or take lora"
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


def _dequantized(bnb: Any, layer: Any) -> torch.Tensor:
    weight: torch.Tensor = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight.float()


def _linear(weight: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear
