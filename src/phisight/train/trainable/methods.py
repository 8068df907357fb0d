"""Which parameters train: full fine-tuning, LoRA, DoRA, QLoRA or the projector alone.

    part         full   lora, dora, qlora   projector
    tower        *      * adapters          -
    projector    yes    adapters            yes
    embeddings   yes    -                   -
    decoder      yes    adapters            -
    head         yes    -                   -

    * only with ``train_tower``

``lora.targets`` names the layers with adapters; with the projector among them, both of its layers get one. With
``from_layer`` k, all that is computed before decoder layer k is frozen, whatever the method.

Trainable parameters are float32 where ``bf16`` leaves the arithmetic to autocast: bfloat16 rounds a step of 1e-5 of a
weight away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from phisight.core.errors import SettingsError, some
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.acceleration.bfloat16 import computes_bfloat16
from phisight.train.trainable.module_groups import is_below, part_of

ADAPTERS = ("lora", "dora", "qlora")
"""Methods that freeze the weights and train adapters beside them."""

TOWER_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
PROJECTOR = "img_projection"


def apply_method(model: nn.Module, train: TrainSettings, lora: LoraSettings) -> nn.Module:
    """Set ``requires_grad`` by method; with adapters, return the wrapped model.

    SettingsError where the settings contradict each other or leave nothing to train.
    """
    _check_from_layer(model, train)
    if train.method in ADAPTERS:
        return _with_adapters(model, train, lora)  # whose adapters are float32 in any case
    bf16 = computes_bfloat16(train)
    for name, parameter in model.named_parameters():
        if part_of(name) == "tower":
            trains = train.train_tower and not _unused(name, model)
        else:
            trains = train.method == "full" or part_of(name) == "projector"
        parameter.requires_grad = trains and not is_below(name, train.from_layer)
        if parameter.requires_grad and bf16:
            parameter.data = parameter.data.float()
    return model


def _check_from_layer(model: Any, train: TrainSettings) -> None:
    """SettingsError when ``from_layer`` leaves nothing to train, or contradicts what is to train."""
    layers = model.config.num_hidden_layers
    if train.from_layer >= layers:
        raise SettingsError(
            f"train.from_layer is {train.from_layer}, but the decoder has {layers} layers, 0 to {layers - 1}"
        )
    wanted = (("train_tower", train.train_tower), ("method projector", train.method == "projector"))
    for setting, contradicts in wanted:
        if train.from_layer and contradicts:
            raise SettingsError(
                f"train.from_layer {train.from_layer} freezes all that comes before that layer, which train.{setting} "
                "is to train; remove one of them"
            )


def _unused(name: str, model: Any) -> bool:
    """The tower's last layer and its post-norm are in the file but never computed, so they cannot train."""
    last = model.config.vision_config.num_hidden_layers - 1
    return f"encoder.layers.{last}." in name or "post_layernorm" in name


def _with_adapters(model: Any, train: TrainSettings, lora: LoraSettings) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    targets = [*lora.targets, *(TOWER_LAYERS if train.train_tower else ())]
    chosen = [
        name
        for name in _matching(model, targets)
        if (train.train_tower or part_of(name) != "tower") and not is_below(name, train.from_layer)
    ]
    if not chosen:
        raise SettingsError(
            f"lora.targets {some(lora.targets)} names only layers that train.from_layer {train.from_layer} or the "
            "frozen tower freezes; nothing would train"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float is fine, the annotation is narrow
        lora_dropout=lora.dropout,
        target_modules=sorted(set(chosen)),
        use_dora=train.method == "dora",
        task_type="CAUSAL_LM",
    )
    wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def _matching(model: Any, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that the targets match; SettingsError names the targets that match none."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    usable = [name for name in linear if not _unused(name + ".", model)]
    found = {target: [name for name in usable if _is_target(name, target)] for target in targets}
    missing = [target for target, names in found.items() if not names]
    if missing:
        known = sorted({name.rsplit(".", 1)[-1] for name in linear if not name[-1].isdigit()} | {PROJECTOR})
        raise SettingsError(
            f"lora.targets names {some(missing)}, which match no layer of the model; its layers are {some(known, 20)}"
        )
    return [name for names in found.values() for name in names]


def _is_target(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target) or f".{target}." in name
