"""Which weights move, as a table that adds up.

    part        names                                full   lora       projector
    tower       ...img_processor...                  *      * adapters -
    projector   ...img_projection..., ...sub/glb_GN  yes    adapters   yes
    embeddings  model.embed_tokens                   yes    -          -
    decoder     model.layers, model.norm             yes    adapters   -
    head        lm_head                              yes    -          -

    * only with ``train_tower``

Adapters go where ``lora.targets`` says; with the projector among the targets, both of its layers get one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from phisight.core.errors import SettingsError, some
from phisight.core.settings import LoraSettings, TrainSettings

PARTS = ("tower", "projector", "embeddings", "decoder", "head")


def part_of(name: str) -> str:
    """Part of the model that a parameter belongs to, by its official name."""
    if "img_processor" in name:
        return "tower"
    if "vision_embed_tokens" in name:
        return "projector"
    if "embed_tokens" in name:
        return "embeddings"
    return "head" if "lm_head" in name else "decoder"


def apply_method(model: nn.Module, train: TrainSettings, lora: LoraSettings) -> nn.Module:
    """Freeze and thaw by method; with lora, the model comes back wrapped with adapters."""
    if train.method == "lora":
        return _with_adapters(model, lora, train.train_tower)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        if part == "tower":
            parameter.requires_grad = train.train_tower and not _unused(name, model)
        else:
            parameter.requires_grad = train.method == "full" or part == "projector"
    return model


def _unused(name: str, model: Any) -> bool:
    """The tower's last layer and its post-norm are held but never computed: they cannot train."""
    last = model.config.vision_config.num_hidden_layers - 1
    return f"encoder.layers.{last}." in name or "post_layernorm" in name


TOWER_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
PROJECTOR = "img_projection"


def _with_adapters(model: Any, lora: LoraSettings, train_tower: bool) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    wanted = [*lora.targets, *(TOWER_LAYERS if train_tower else ())]
    chosen, missing = [], []
    for target in wanted:
        matches = [name for name in linear if _is_target(name, target) and not _unused(name + ".", model)]
        chosen += [name for name in matches if train_tower or part_of(name) != "tower"]
        if not matches:
            missing.append(target)
    if missing:
        known = sorted({name.rsplit(".", 1)[-1] for name in linear if not name[-1].isdigit()} | {PROJECTOR})
        raise SettingsError(
            f"lora.targets names {some(missing)}, which no layer of the model is called; "
            f"its layers are {some(known, 20)}"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float is fine, the annotation is narrow
        lora_dropout=lora.dropout,
        target_modules=sorted(set(chosen)),
        task_type="CAUSAL_LM",
    )
    wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def _is_target(name: str, target: str) -> bool:
    return name.endswith("." + target) or f".{target}." in name


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part."""

    part: str
    trained: int
    frozen: int


def count_parts(model: nn.Module) -> list[PartCount]:
    """Trained and frozen parameters of each part; over all parts they add up to the model's."""
    counts = {part: [0, 0] for part in PARTS}
    for name, parameter in model.named_parameters():
        counts[part_of(name)][0 if parameter.requires_grad else 1] += parameter.numel()
    return [PartCount(part, trained, frozen) for part, (trained, frozen) in counts.items()]
