"""LoRA on all layers with compiled layers, and with Liger's kernels: last, since both change what runs after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.models.phi3 import modeling_phi3

from gpu.record import Figures
from gpu.session import Session
from gpu.training import FEATURES, Variant, adapted
from phisight.core.settings import TrainSettings
from phisight.train.acceleration.liger import use_liger

PART = "compiled"
COMPILED = Variant("ours, compiled, features in memory", FEATURES, compiled=True)
LIGER = Variant("ours, Liger, features in memory", FEATURES, fused=False)


def run(session: Session) -> None:
    """Liger first: it needs seconds, the compiler a minute."""
    train = TrainSettings(method="lora", bf16=True)
    long = session.size.grids[1]
    told = f"{session.size.image_tokens(long):,} image tokens"
    grids = [long] * session.examples

    def with_liger() -> Figures:
        with originals(), adapted(session.model) as model:
            use_liger(model)
            return session.measure(model, LIGER, grids, train=train, profiled=True)

    def compiled() -> Figures:
        with adapted(session.model) as model:
            return session.measure(model, COMPILED, grids, train=train, profiled=True)

    session.record.attempt(PART, f"{told}: {LIGER.name}", session.needs(15), with_liger)
    session.renew()  # Liger's layers stay as they are
    session.record.attempt(PART, f"{told}: {COMPILED.name}", session.needs(75), compiled)


@contextmanager
def originals() -> Iterator[None]:
    """Functions and classes of the library's module that Liger replaces come back."""
    names = ("apply_rotary_pos_emb", "Phi3RMSNorm", "Phi3MLP")
    before = {name: getattr(modeling_phi3, name) for name in names}
    try:
        yield
    finally:
        for name, one in before.items():
            setattr(modeling_phi3, name, one)
