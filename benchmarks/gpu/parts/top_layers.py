"""LoRA on the top quarter of the layers: the plain way, and ours over cached hidden states."""

from __future__ import annotations

from gpu.record import Figures
from gpu.session import Session
from gpu.training import STATES, Variant, adapted
from phisight.core.settings import TrainSettings

PART = "top"
VARIANTS = (
    Variant("ours, hidden states in memory", STATES),
    Variant("plain, micro-batches of one", plain=True, micro_batch=1),
    Variant("ours, all computed"),
)


def run(session: Session) -> None:
    """Both lengths, long ones first."""
    first = session.config.num_hidden_layers * 3 // 4
    train = TrainSettings(method="lora", from_layer=first, bf16=True)
    with adapted(session.model, first) as model:
        for grid in reversed(session.size.grids):
            for variant in VARIANTS:

                def measure(variant: Variant = variant, grid: int = grid) -> Figures:
                    return session.measure(model, variant, [grid] * session.examples, train=train)

                name = f"{session.size.image_tokens(grid):,} image tokens: {variant.name}"
                session.record.attempt(PART, name, session.needs(6), measure)
