"""GPUs and what their makers state of them, as ``phisight plan`` reckons with them.

Sources: NVIDIA's data sheets. Matrix rates are dense bfloat16 with float32 accumulation, without sparsity.
"""

from __future__ import annotations

from dataclasses import dataclass

from phisight.core.errors import SettingsError, some

ASSUMED_EFFICIENCY = 0.35
"""Share of the stated matrix rate that training reaches where nothing was measured: what published fine-tuning of
vision-language models of 7 to 8 billion weights reports is 0.30 to 0.40. What was measured: ``measured_shares.py``."""


@dataclass(frozen=True)
class Card:
    """One kind of GPU."""

    name: str
    teraflops: float
    """Stated dense bfloat16 TFLOP/s."""
    gigabytes_per_s: float
    """Stated memory bandwidth."""
    gigabytes: float
    """Memory."""
    float32_teraflops: float
    """Stated float32 TFLOP/s without tensor cores: what a run without bf16 computes with."""


CARDS = (
    Card("A10G", 70, 600, 24, 31),
    Card("L4", 121, 300, 24, 30),
    Card("RTX 4090", 165, 1008, 24, 83),
    Card("A100 40GB", 312, 1555, 40, 19.5),
    Card("A100 80GB", 312, 2039, 80, 19.5),
    Card("H100", 989, 3350, 80, 67),
    Card("H200", 989, 4800, 141, 67),
)


def card(name: str) -> Card:
    """The card of a name, in whatever case and spacing."""
    wanted = _key(name)
    for one in CARDS:
        if _key(one.name) == wanted:
            return one
    raise SettingsError(f"no card is called {name!r}; known are {some([one.name for one in CARDS], 20)}")


def _key(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isalnum())
