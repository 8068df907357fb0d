"""Every weight of decoder and projector, with the optimizer that memory allows; and QLoRA."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from gpu.record import Figures
from gpu.session import Session
from gpu.training import FEATURES, Variant, adapted
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.trainable.methods import apply_method
from phisight.train.trainable.quantize import quantize_decoder

PART = "full"
FULL = Variant("every weight, features in memory, checkpointing", FEATURES, checkpointing=True)
QLORA = Variant("QLoRA, features in memory", FEATURES)


def run(session: Session) -> None:
    """8-bit AdamW where bitsandbytes is there, AdamW in float32 where memory allows it, QLoRA."""
    grid = session.size.grids[0]
    told = f"{session.size.image_tokens(grid):,} image tokens"
    grids = [grid] * session.examples
    train = TrainSettings(method="full", bf16=True)
    optimizers = {"AdamW in 8 bits": eight_bits, "AdamW in float32": None}
    for name, optimizer in optimizers.items():

        def full(optimizer: Any = optimizer) -> Figures:
            require_room(session, bytes_a_weight=10 if optimizer else 16)
            apply_method(session.model, train, LoraSettings())
            session.model.train()
            return session.measure(
                session.model,
                FULL,
                grids,
                train=train,
                optimizer=optimizer,
                profiled=optimizer is None,
            )

        session.record.attempt(PART, f"{told}: {FULL.name}, {name}", session.needs(20), full)
        session.renew()

    def qlora() -> Figures:
        quantize_decoder(session.model).to(session.device.torch_device)
        session.device.release()
        with adapted(session.model) as model:
            return session.measure(model, QLORA, grids, train=TrainSettings(method="qlora", bf16=True))

    session.record.attempt(PART, f"{told}: {QLORA.name}", session.needs(20), qlora)
    session.renew()


def require_room(session: Session, bytes_a_weight: int) -> None:
    """MemoryError where weights, gradients and optimizer cannot fit, so that no time is lost on finding out."""
    weights = sum(one.numel() for one in session.model.parameters())
    needed = weights * (bytes_a_weight + 2) + 4e9 * session.full  # and bfloat16 copies under autocast, activations
    if needed > session.device.total_bytes():
        raise MemoryError(
            f"{weights:,} weights at {bytes_a_weight} bytes and their bfloat16 copies take {needed / 1e9:.0f} GB, the "
            f"device has {session.device.total_bytes() / 1e9:.0f} GB"
        )


def eight_bits(trained: list[torch.nn.Parameter]) -> Any:
    """bitsandbytes' AdamW with 8-bit moments."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("bitsandbytes is not installed")
    import bitsandbytes

    adam: Any = bitsandbytes.optim
    return adam.AdamW8bit(trained, lr=1e-5)
