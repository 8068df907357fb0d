"""What share of its stated matrix rate a card reached where phisight's step was run on it (benchmarks/results).

A test holds these figures against the result files. A run takes the entry that is most like it: the method first, then
what is cached, then the length of its images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from phisight.core.settings import TrainSettings
from phisight.train.estimate.flops import Cached


@dataclass(frozen=True)
class Measured:
    """One measurement of training on a card."""

    card: str
    method: str
    """lora, full or qlora; ``top`` is LoRA on the top quarter of the layers."""
    cached: Cached
    image_tokens: int
    teraflops: float
    """TFLOP/s reached, recomputation not counted."""
    part: str
    name: str
    """Where the figure stands in the result file."""
    recomputed: float = 1.0
    """FLOPs with recomputation over those without, in that run."""
    note: str = "measured"


_LONG, _SHORT, _OLD = "2,509 image tokens: ours", "757 image tokens: ours", "measured on an earlier step, too low"
_FULL = "757 image tokens: every weight, features in memory, checkpointing, AdamW in float32"
MEASURED = (
    Measured("H200", "lora", "features", 2509, 457, "lora", f"{_LONG}, features in memory"),
    Measured("H200", "lora", "nothing", 2509, 438, "lora", f"{_LONG}, tower computed"),
    Measured("H200", "lora", "features", 757, 437, "lora", f"{_SHORT}, features in memory"),
    Measured("H200", "lora", "nothing", 757, 418, "lora", f"{_SHORT}, tower computed"),
    Measured("H200", "top", "hidden states", 2509, 472, "top", f"{_LONG}, hidden states in memory"),
    Measured("H200", "top", "nothing", 2509, 466, "top", f"{_LONG}, all computed"),
    Measured("H200", "top", "hidden states", 757, 447, "top", f"{_SHORT}, hidden states in memory"),
    Measured("H200", "top", "nothing", 757, 452, "top", f"{_SHORT}, all computed"),
    # checkpointing computes the forward pass again: 4 passes' worth where 3 are counted
    Measured("H200", "full", "features", 757, 276, "full", _FULL, 4 / 3, _OLD),
    Measured("H200", "qlora", "features", 757, 292, "full", "757 image tokens: QLoRA, features in memory", 1.0, _OLD),
)


def most_alike(card: str, train: TrainSettings, cached: Cached, image_tokens: float) -> Measured | None:
    """The measurement on a card that a run is most like; None where nothing was measured on it."""
    method = "top" if train.from_layer else {"full": "full", "qlora": "qlora"}.get(train.method, "lora")

    def distance(one: Measured) -> tuple[bool, bool, bool, float]:
        adapters = one.method in ("lora", "top")  # what another method is most like
        return one.method != method, not adapters, one.cached != cached, abs(math.log(one.image_tokens / image_tokens))

    return min((one for one in MEASURED if one.card == card), key=distance, default=None)
