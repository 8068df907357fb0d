"""Low-rank adapters merged into the weights of their base, in float32, and cast once at the end.

    weight                         [out, in]   of the base, float32
    update = scale * B @ A         [out, in]   LoRA
    DoRA: magnitude * (weight + update) / (length of each row of weight + update)

One tensor is in memory at a time, whatever the size of the model. The same arithmetic merges the adapters of a run that
is evaluated (``merge_into``), so that what is exported is what was scored, bit for bit.

Source: Hu et al. 2021, LoRA; Liu et al. 2024, DoRA; file format of PEFT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from phisight.core.errors import CheckpointError, some
from phisight.core.read_files import read_object
from phisight.export.tensor_files import TensorSpec, specs_of, values_of, write_shard
from phisight.model.checkpoint import INDEX, WEIGHTS, weight_files

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
OTHER_KINDS = (
    "modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters", "fan_in_fan_out",
    "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
)  # fmt: skip
"""Settings of PEFT with which an update is no product of two matrices added to the weight."""
_NAME = re.compile(r"base_model\.model\.(?P<layer>.+)\.(?P<kind>lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")


@dataclass(frozen=True)
class LayerAdapter:
    """The adapter of one linear layer."""

    down: Tensor
    """A, float[rank, in]."""
    up: Tensor
    """B, float[out, rank]."""
    scale: float
    magnitude: Tensor | None = None
    """DoRA's length of each row, float[out]."""

    def merged(self, weight: Tensor) -> Tensor:
        """Weight [out, in] of the base to the merged one, float32."""
        with torch.no_grad():
            whole: Tensor = weight.float() + (self.up.float() @ self.down.float()) * self.scale
            if self.magnitude is None:
                return whole
            lengths: Tensor = torch.linalg.vector_norm(whole, dim=1, keepdim=True)
            return whole * (self.magnitude.float()[:, None] / lengths)


@dataclass(frozen=True)
class Adapters:
    """What a folder in PEFT's format holds."""

    base: str | None
    """Name of the model that they go onto, as it stands in the folder."""
    layers: dict[str, LayerAdapter]
    """By the official name of the layer, such as ``model.layers.0.self_attn.qkv_proj``."""
    onto: torch.dtype | None = None
    """Type that a weight has in memory when they are merged into it; None means the one it comes with."""

    @classmethod
    def read(cls, folder: Path, onto: torch.dtype | None = None) -> Adapters:
        """Read a folder; CheckpointError where it holds something that cannot be merged."""
        try:
            settings: dict[str, Any] = read_object(folder / ADAPTER_CONFIG)
            tensors = dict(values_of(folder / ADAPTER_WEIGHTS))
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"the adapters in {folder} cannot be read ({' '.join(str(error).split())[:160]}); copy them again"
            ) from error
        _refuse_other_kinds(settings, folder)
        parts: dict[str, dict[str, Tensor]] = {}
        unknown = []
        for name, value in tensors.items():
            match = _NAME.fullmatch(name)
            if match is None:
                unknown.append(name)
            else:
                parts.setdefault(match["layer"], {})[match["kind"]] = value
        halves = [layer for layer, found in parts.items() if not {"lora_A", "lora_B"} <= set(found)]
        if unknown or halves:
            raise CheckpointError(
                f"the adapters in {folder} hold what cannot be merged: {some([*unknown, *halves])}; merge them with "
                "the program that wrote them"
            )
        try:
            layers = {layer: _layer(layer, found, settings) for layer, found in parts.items()}
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, re.error) as error:
            raise CheckpointError(
                f"{folder / ADAPTER_CONFIG} says nothing usable about the adapters' scale ({error}); copy them again"
            ) from error
        return cls(settings.get("base_model_name_or_path"), layers, onto)

    def weight_names(self) -> set[str]:
        """Names of the tensors that change."""
        return {f"{layer}.weight" for layer in self.layers}

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """A tensor of the base as it is after merging; one without an adapter stays as it is."""
        layer = self.layers.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if layer is None:
            return weight
        shape = (layer.up.shape[0], layer.down.shape[1])
        if tuple(weight.shape) != shape:
            raise CheckpointError(
                f"the adapter of {name} is made for a weight of {list(shape)} but the base has {list(weight.shape)}; "
                "name the base that the adapters were trained on"
            )
        return layer.merged(weight.to(self.onto or weight.dtype))


def _refuse_other_kinds(settings: dict[str, Any], folder: Path) -> None:
    wrong = [f"peft_type {settings.get('peft_type')}"] if settings.get("peft_type") != "LORA" else []
    wrong += [f"bias {settings['bias']}"] if settings.get("bias", "none") != "none" else []
    wrong += [key for key in OTHER_KINDS if settings.get(key)]
    start = settings.get("init_lora_weights", True)
    if isinstance(start, str) and start not in ("gaussian", "eva", "orthogonal"):
        wrong += [f"init_lora_weights {start}, which changes the base"]
    if wrong:
        raise CheckpointError(
            f"the adapters in {folder} are of a kind that phisight does not merge ({some(wrong)}); merge them with the "
            "program that wrote them"
        )


def _layer(layer: str, parts: dict[str, Tensor], settings: dict[str, Any]) -> LayerAdapter:
    rank = parts["lora_A"].shape[0]
    alpha = next(
        (
            float(value)
            for key, value in (settings.get("alpha_pattern") or {}).items()
            if re.search(f"(^|\\.){key}$", layer)
        ),
        float(settings["lora_alpha"]),
    )
    scale = alpha / (rank**0.5 if settings.get("use_rslora") else rank)
    return LayerAdapter(parts["lora_A"], parts["lora_B"], scale, parts.get("lora_magnitude_vector"))


@torch.no_grad()
def merge_into(model: nn.Module, adapters: Adapters) -> None:
    """Merge adapters into a model in memory, in place; CheckpointError where one fits no layer."""
    weights = dict(model.named_parameters())
    _require(adapters.weight_names(), set(weights), "the model")
    for name in sorted(adapters.weight_names()):
        weight = weights[name]
        weight.copy_(adapters.merged(name, weight.cpu()).to(weight.dtype))


def write_merged(
    base: str | Path,
    adapters: Sequence[Adapters],
    out: Path,
    dtype: torch.dtype | None = None,
    **hub: Any,
) -> list[TensorSpec]:
    """Write the weights of a base, with adapters merged, into a folder: its files under their names, and the index.

    Args:
        base: Folder in the official layout, or hub name.
        adapters: What is merged, one after the other; none copies the weights.
        out: Folder that exists.
        dtype: Type of floating tensors; None keeps each one's.
        **hub: Such as the revision of a hub name.

    Returns what was written.
    """
    files = weight_files(base, **hub)
    specs = {path: [_cast(spec, dtype) for spec in specs_of(path)] for path in files}
    there = {spec.name for wanted in specs.values() for spec in wanted}
    for layer in adapters:
        _require(layer.weight_names(), there, str(base))
    for path, wanted in specs.items():
        write_shard(out / path.name, wanted, _merged_values(path, adapters))
    every = [spec for wanted in specs.values() for spec in wanted]
    if [path.name for path in files] != [WEIGHTS]:
        weight_map = {spec.name: path.name for path, wanted in specs.items() for spec in wanted}
        index = {"metadata": {"total_size": sum(spec.bytes for spec in every)}, "weight_map": weight_map}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return every


def _merged_values(path: Path, adapters: Sequence[Adapters]) -> Iterator[tuple[str, Tensor]]:
    for name, value in values_of(path):
        for layer in adapters:
            value = layer.merged(name, value)
        yield name, value


def _cast(spec: TensorSpec, dtype: torch.dtype | None) -> TensorSpec:
    return TensorSpec(spec.name, spec.shape, dtype) if dtype is not None and spec.dtype.is_floating_point else spec


def _require(wanted: set[str], there: set[str], where: str) -> None:
    missing = sorted(wanted - there)
    if missing:
        raise CheckpointError(
            f"{len(missing)} adapters fit no layer of {where} ({some(missing)}); name the base they were trained on"
        )
