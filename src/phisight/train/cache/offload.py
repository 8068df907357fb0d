"""Offloading of weights that no training step needs; they are available whenever something reads them.

    weights below a layer --written once--> FOLDER/<key>/weights.safetensors --memory-mapped--> the same parameters

On a CPU the parameters become a memory map of that file: the system reads a page when it is accessed (saving, answers
during evaluation) and evicts it when memory is short. On a GPU they leave the device while steps bring cached hidden
states, and are moved back before a forward pass that starts from ids.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from phisight.model.attention import inside_adapters
from phisight.train.cache.store import TensorStore
from phisight.train.trainable.module_groups import is_below

OFFLOADED_WEIGHTS = "weights"
"""Name of their file."""


def weights_below(model: nn.Module, first_layer: int) -> dict[str, nn.Parameter]:
    """Parameters used before a decoder layer, by their official names, whatever wraps the model."""
    below = ((name, one) for name, one in model.named_parameters() if is_below(name, first_layer))
    return {name.removeprefix("base_model.model."): one for name, one in below}


def offload_below(model: Any, first_layer: int, store: TensorStore) -> bool:
    """Offload the weights below a layer from the first forward pass over cached states on.

    Not where they are quantized, or where the head shares the embeddings; returns whether it is done.
    """
    below = weights_below(model, first_layer)
    base = inside_adapters(model)
    packed = any(hasattr(one, "quant_state") for one in below.values())
    if packed or base.lm_head.weight is base.model.embed_tokens.weight:
        return False
    weights = TensorStore(store.folder.parent, store.folder.name, below)
    if weights.lacks(OFFLOADED_WEIGHTS):
        weights.write(OFFLOADED_WEIGHTS, {name: one.data for name, one in below.items()})
    base.model.register_forward_pre_hook(_OffloadHook(below, weights), with_kwargs=True)
    return True


class _OffloadHook:
    """Runs before each forward pass of the model: cached states need no weights below, anything else does."""

    def __init__(self, parameters: dict[str, nn.Parameter], store: TensorStore) -> None:
        self.parameters = parameters
        self.store = store
        self.offloaded = False

    def __call__(self, module: Any, _: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        device = module.norm.weight.device
        if kwargs.get("trunk_states") is not None:
            if not self.offloaded:
                self._set_values(self.store.load(OFFLOADED_WEIGHTS))
                self.offloaded = True
        elif self.offloaded and device.type != "cpu":
            self._set_values({name: one.data.to(device) for name, one in self.parameters.items()})
            self.offloaded = False

    def _set_values(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.data = values[name]
