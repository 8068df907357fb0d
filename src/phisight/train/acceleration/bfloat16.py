"""Whether steps compute in bfloat16: as the recipe says, or (``auto``) where the device has instructions for it.

A CPU without such instructions multiplies bfloat16 at about a tenth of its float32 rate: most of before 2022 are such.
"""

from __future__ import annotations

import torch

from phisight.core.settings import Recipe, TrainSettings

CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Names that torch gives the instructions that multiply bfloat16, of x86 and of ARM."""


def multiplies_bfloat16() -> bool:
    """Whether the device that trains, the GPU or else the CPU, has instructions that multiply bfloat16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_multiplies_bfloat16()


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in CPU_INSTRUCTIONS)


def computes_bfloat16(train: TrainSettings) -> bool:
    """Whether steps compute under autocast in bfloat16 on this machine."""
    return multiplies_bfloat16() if train.bf16 == "auto" else train.bf16


def with_number_type(recipe: Recipe) -> Recipe:
    """The recipe with ``train.bf16`` settled for this machine: what a run records, and keeps wherever it continues."""
    train = recipe.train.model_copy(update={"bf16": computes_bfloat16(recipe.train)})
    return recipe.model_copy(update={"train": train})


def chosen_type() -> str:
    """What ``auto`` means on this machine, and why."""
    device = "GPU" if torch.cuda.is_available() else "CPU"
    if multiplies_bfloat16():
        return f"bfloat16, for which this {device} has instructions"
    return f"float32, since this {device} has no instructions for bfloat16"


def bfloat16_is_slow() -> bool:
    """Whether what computes in bfloat16 computes on a CPU without its instructions."""
    return not torch.cuda.is_available() and not cpu_multiplies_bfloat16()


def slow_bfloat16(what: str, repair: str) -> str | None:
    """What to say of ``what`` in bfloat16 on a CPU without its instructions; None on any other device."""
    if not bfloat16_is_slow():
        return None
    return (
        f"{what} in bfloat16, for which this CPU has no instructions: products take about ten times as long as in "
        f"float32; {repair}"
    )
