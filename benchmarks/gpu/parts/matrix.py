"""What the card can do at most: bfloat16 matrix products, copies in its memory, copies from the host."""

from __future__ import annotations

import torch

from gpu.device import timed
from gpu.record import Figures
from gpu.session import Session

PART = "matrix"


def run(session: Session) -> None:
    """Matrix rate, memory bandwidth, host to device."""
    session.record.attempt(PART, "bf16", session.needs(3), lambda: matrix_rate(session, torch.bfloat16))
    session.record.attempt(PART, "memory", session.needs(2), lambda: bandwidth(session))
    session.record.attempt(PART, "host to device", session.needs(2), lambda: from_host(session))
    session.record.attempt(PART, "layer shapes", session.needs(3), lambda: layer_rates(session))


def matrix_rate(session: Session, dtype: torch.dtype) -> Figures:
    """TFLOP/s of a square product of random values, as a second of them runs."""
    side, device = session.size.matrix, session.device.torch_device
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return {"tflops": _rate(session, left, right), "side": side}


def _rate(session: Session, left: torch.Tensor, right: torch.Tensor) -> float:
    timing = timed(session.device, lambda: [torch.mm(left, right) for _ in range(8)], seconds=session.step_seconds / 2)
    flops = 2.0 * left.shape[0] * left.shape[1] * right.shape[1] * 8
    return flops / timing.typical / 1e12


def layer_rates(session: Session) -> Figures:
    """TFLOP/s of the decoder's own shapes at a micro-batch's tokens."""
    from phisight.train.estimate.flops import layer_shapes

    tokens = 8192 if session.full else 64
    found: Figures = {"tokens": tokens}
    for name, (inputs, outputs) in layer_shapes(session.config).items():
        rows = torch.randn(tokens, inputs, device=session.device.torch_device, dtype=torch.bfloat16)
        weight = torch.randn(outputs, inputs, device=session.device.torch_device, dtype=torch.bfloat16)
        found[name] = _rate(session, rows, weight.t())
    return found


def bandwidth(session: Session) -> Figures:
    """TB/s of a copy within the device's memory, bytes read and written."""
    count = 2**31 if session.full else 2**20
    source = torch.empty(count, dtype=torch.uint8, device=session.device.torch_device)
    target = torch.empty_like(source)
    timing = timed(session.device, lambda: target.copy_(source), seconds=session.step_seconds / 4)
    return {"tb_per_s": 2 * count / timing.typical / 1e12}


def from_host(session: Session) -> Figures:
    """GB/s from pinned host memory."""
    count = 2**29 if session.full else 2**20
    source = torch.empty(count, dtype=torch.uint8, pin_memory=session.device.kind == "cuda")
    target = torch.empty(count, dtype=torch.uint8, device=session.device.torch_device)
    timing = timed(session.device, lambda: target.copy_(source, non_blocking=True), seconds=session.step_seconds / 4)
    return {"gb_per_s": count / timing.typical / 1e9}
