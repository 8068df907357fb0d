"""FLOPs that one training example asks for, by part of the model: what the arithmetic needs, whoever computes it.

    linear layer [m, k] x [k, n]     2 m k n
    causal attention, T tokens       2 T^2 D a layer          (the tower's is not causal: 4 n^2 V a crop and layer)
    forward                          every part that a step computes; nothing of what a cache holds
    backward, inputs                 as much again for each layer above the first trainable weight; attention twice
    backward, weights                as much again for trainable weights alone, an adapter's own weights included

The total excludes recomputation (gradient checkpointing) and the gradients of frozen weights, so that a share of the
matrix rate says how well the arithmetic that is needed runs. ``recomputed`` holds what checkpointing adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from phisight.core.settings import LoraSettings, TrainSettings

Cached = Literal["nothing", "features", "hidden states"]
"""What a step reads instead of computing it."""
ADAPTED = ("lora", "dora", "qlora")
PROJECTOR = "img_projection"
PARTS = ("tower", "projector", "decoder", "head", "adapters")


@dataclass(frozen=True)
class ExampleSize:
    """What an example's arithmetic depends on."""

    tokens: int
    """Tokens of the sequence, image tokens counted."""
    image_tokens: int
    """Image tokens: rows that the projector computes."""
    crops: int
    """Crops that the tower computes, thumbnails counted."""
    trained: int
    """Tokens with a label: rows of the language head."""


@dataclass(frozen=True)
class PartFlops:
    """FLOPs of one part for one example."""

    forward: float
    backward: float
    recomputed: float = 0.0


@dataclass(frozen=True)
class ExampleFlops:
    """FLOPs of one example by part."""

    tower: PartFlops
    projector: PartFlops
    decoder: PartFlops
    head: PartFlops
    adapters: PartFlops

    @property
    def parts(self) -> dict[str, PartFlops]:
        """Each part by its name."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def total(self) -> float:
        """Forward and backward, without recomputation."""
        return sum(part.forward + part.backward for part in self.parts.values())

    @property
    def executed(self) -> float:
        """What a device computes: recomputation included."""
        return self.total + sum(part.recomputed for part in self.parts.values())


def example_flops(
    config: Any, size: ExampleSize, train: TrainSettings, lora: LoraSettings, cached: Cached = "nothing"
) -> ExampleFlops:
    """FLOPs of one training example.

    Args:
        config: A ``Phi3VConfig``.
        size: Of the example.
        train: Method, first trained layer, whether the tower trains, checkpointing.
        lora: Rank and targets of adapters, where the method has them.
        cached: What steps read from a cache.
    """
    first = train.from_layer
    below_computed = cached != "hidden states"
    tower = PartFlops(0.0, 0.0)
    if cached == "nothing":
        forward = _tower_forward(config, size.crops)
        backward = forward * _gradient_share(train) if train.train_tower else 0.0
        tower = PartFlops(forward, backward, forward if backward and train.gradient_checkpointing else 0.0)
    linear, attention = _layer_forward(config, size.tokens)
    trained_layers = config.num_hidden_layers - first
    computed_layers = config.num_hidden_layers if below_computed else trained_layers
    backward = trained_layers * (linear * _gradient_share(train) + 2 * attention)
    upper = trained_layers * (linear + attention)
    head = 2.0 * size.trained * config.hidden_size * config.vocab_size
    return ExampleFlops(
        tower=tower,
        projector=_projector(config, size, train, lora) if below_computed else PartFlops(0.0, 0.0),
        decoder=PartFlops(
            computed_layers * (linear + attention), backward, upper if train.gradient_checkpointing else 0.0
        ),
        head=PartFlops(head, head * _gradient_share(train)),
        adapters=_adapters(config, size, train, lora),
    )


def _gradient_share(train: TrainSettings) -> float:
    """Backward FLOPs of a linear layer over its forward FLOPs: inputs alone, or weights as well."""
    return 2.0 if train.method == "full" else 1.0


def _tower_forward(config: Any, crops: int) -> float:
    """All layers but the last one, which the model never computes."""
    vision = config.vision_config
    V, inner = vision.hidden_size, vision.intermediate_size  # noqa: N806
    patches = (vision.image_size // vision.patch_size) ** 2
    n = patches + 1
    layer = 2 * n * (4 * V * V + 2 * V * inner) + 4 * n * n * V
    return float(crops * ((vision.num_hidden_layers - 1) * layer + 2 * patches * 3 * vision.patch_size**2 * V))


def _layer_forward(config: Any, tokens: int) -> tuple[float, float]:
    """One decoder layer: its linear layers, and its attention."""
    linear = sum(2.0 * tokens * inputs * outputs for inputs, outputs in layer_shapes(config).values())
    return linear, 2.0 * tokens * tokens * config.hidden_size


def layer_shapes(config: Any) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer of a decoder layer, by its official name."""
    D, F = config.hidden_size, config.intermediate_size  # noqa: N806
    keys = D * config.num_key_value_heads // config.num_attention_heads
    return {"qkv_proj": (D, D + 2 * keys), "o_proj": (D, D), "gate_up_proj": (D, 2 * F), "down_proj": (F, D)}


def _projector(config: Any, size: ExampleSize, train: TrainSettings, lora: LoraSettings) -> PartFlops:
    merged, D = 4 * config.vision_config.hidden_size, config.hidden_size  # noqa: N806
    first, second = 2.0 * size.image_tokens * merged * D, 2.0 * size.image_tokens * D * D
    weights_train = train.method in ("full", "projector") and train.from_layer == 0
    adapted = train.method in ADAPTED and PROJECTOR in lora.targets and train.from_layer == 0
    backward = second if weights_train or adapted else 0.0  # through the second layer to the first one
    if weights_train:
        backward += first + second
    if train.train_tower:
        backward = max(backward, second) + first  # and on to the tower
    return PartFlops(first + second, backward)


def _adapters(config: Any, size: ExampleSize, train: TrainSettings, lora: LoraSettings) -> PartFlops:
    """Both factors of each adapter: forward, inputs' and weights' gradients. The tower's few are left out."""
    if train.method not in ADAPTED:
        return PartFlops(0.0, 0.0)
    layers = config.num_hidden_layers - train.from_layer
    widths = layers * sum(sum(shape) for name, shape in layer_shapes(config).items() if name in lora.targets)
    forward = 2.0 * lora.rank * size.tokens * widths
    if PROJECTOR in lora.targets and train.from_layer == 0:
        forward += 2.0 * lora.rank * size.image_tokens * (4 * config.vision_config.hidden_size + 3 * config.hidden_size)
    return PartFlops(forward, 2 * forward)
