"""Most bytes of tensors that a training step holds, counted by the profiler."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_of_the_second_step(model: Any, backward: Callable[[], None]) -> int:
    """Most bytes of tensors in the second step, parameters and optimizer counted; ``backward`` makes its gradients."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=False)

    def step() -> None:
        backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    held = sum(p.nbytes for p in model.parameters())
    held += sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    now = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return int(held + peak)
