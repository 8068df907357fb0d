"""Liger's fused kernels on the decoder: RMS norms, rotary embeddings and SwiGLU, by its own function for Phi-3.

Its fused loss is not used: the head runs at the labeled positions only, which takes even less memory.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from phisight.core.errors import SettingsError
from phisight.model.attention import inside_adapters


def use_liger(model: Any) -> None:
    """Patch a model, with adapters or without; SettingsError without a GPU or without the package."""
    if importlib.util.find_spec("liger_kernel") is None:
        raise SettingsError(
            "train.liger needs the package liger-kernel, which is not installed; pip install 'phisight[liger]', or "
            "set train.liger to false"
        )
    if not torch.cuda.is_available():
        raise SettingsError("train.liger needs a GPU and there is none; set train.liger to false")
    from liger_kernel.transformers import apply_liger_kernel_to_phi3

    apply_liger_kernel_to_phi3(
        rope=True,
        rms_norm=True,
        swiglu=True,
        cross_entropy=False,
        fused_linear_cross_entropy=False,
        model=inside_adapters(model),
    )
