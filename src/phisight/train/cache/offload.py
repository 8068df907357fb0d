"""Weights that no step needs leave the memory while training, and are there whenever they are asked for.

    weights below a layer --written once--> FOLDER/<key>/weights.safetensors --mapped--> the same parameters

On a CPU the parameters become a mapping of that file: the system reads a page when something looks at it (saving,
answers during evaluation) and drops it when memory is short. On a GPU they leave the device while steps bring
stored hidden states, and return before a pass that starts from ids.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from phisight.train.cache.store import TensorStore
from phisight.train.trainable.module_groups import is_below

RESTING_WEIGHTS = "weights"
"""Name under which they are stored."""


def weights_below(model: nn.Module, first_layer: int) -> dict[str, nn.Parameter]:
    """Parameters that are computed before a decoder layer, by their official names, whatever wraps the model."""
    below = ((name, one) for name, one in model.named_parameters() if is_below(name, first_layer))
    return {name.removeprefix("base_model.model."): one for name, one in below}


def rest_below(model: Any, first_layer: int, store: TensorStore) -> bool:
    """Let the weights below a layer go from the first pass over stored states on.

    Not where they are packed into few bits, or where the head shares the embeddings; returns whether it is done.
    """
    below = weights_below(model, first_layer)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    packed = any(hasattr(one, "quant_state") for one in below.values())
    if packed or base.lm_head.weight is base.model.embed_tokens.weight:
        return False
    weights = TensorStore(store.folder.parent, store.folder.name, below)
    if weights.lacks(RESTING_WEIGHTS):
        weights.keep(RESTING_WEIGHTS, {name: one.data for name, one in below.items()})
    base.model.register_forward_pre_hook(_Resting(below, weights), with_kwargs=True)
    return True


class _Resting:
    """Called before each pass of the model: stored states need no weights below, anything else does."""

    def __init__(self, parameters: dict[str, nn.Parameter], store: TensorStore) -> None:
        self.parameters = parameters
        self.store = store
        self.at_rest = False

    def __call__(self, module: Any, _: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        device = module.norm.weight.device
        if kwargs.get("trunk_states") is not None:
            if not self.at_rest:
                self._show(self.store.load(RESTING_WEIGHTS))
                self.at_rest = True
        elif self.at_rest and device.type != "cpu":
            self._show({name: one.data.to(device) for name, one in self.parameters.items()})
            self.at_rest = False

    def _show(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.data = values[name]
