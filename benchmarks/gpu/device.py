"""The few things a benchmark asks of a device, behind one interface, so that all of it also runs on a CPU."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch


class Device:
    """A CPU: nothing runs asynchronously, memory is the process's own affair."""

    kind = "cpu"

    def __init__(self) -> None:
        self.torch_device = torch.device(self.kind)

    @property
    def name(self) -> str:
        """The card's name, which results are filed under."""
        return f"cpu {os.cpu_count()} cores"

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked to."""

    def reset_peak(self) -> None:
        """Start a new peak of memory."""

    def peak_bytes(self) -> int:
        """Most bytes that tensors took since ``reset_peak``."""
        return 0

    def reserved_bytes(self) -> int:
        """Most bytes that the allocator held since ``reset_peak``."""
        return 0

    def total_bytes(self) -> int:
        """Memory of the device."""
        return 8 * 10**9

    def used_bytes(self) -> int:
        """Bytes that tensors take now."""
        return 0

    def release(self) -> None:
        """Give back what is no longer alive."""
        gc.collect()

    def graph(self, step: Callable[[], None]) -> Callable[[], None]:
        """``step`` recorded once, to be replayed; here: itself."""
        step()
        return step

    def about(self) -> dict[str, Any]:
        """What the results should say of it."""
        return {"device": self.name, "threads": torch.get_num_threads()}


class Cuda(Device):
    """A GPU of NVIDIA's."""

    kind = "cuda"

    @property
    def name(self) -> str:
        """The driver's name of the card."""
        return torch.cuda.get_device_name()

    def synchronize(self) -> None:
        """Wait for all streams."""
        torch.cuda.synchronize()

    def reset_peak(self) -> None:
        """Start a new peak of memory."""
        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """Most bytes that tensors took since ``reset_peak``."""
        return torch.cuda.max_memory_allocated()

    def reserved_bytes(self) -> int:
        """Most bytes that the allocator held since ``reset_peak``."""
        return torch.cuda.max_memory_reserved()

    def total_bytes(self) -> int:
        """Memory of the device."""
        return torch.cuda.get_device_properties(0).total_memory

    def used_bytes(self) -> int:
        """Bytes that tensors take now."""
        return torch.cuda.memory_allocated()

    def release(self) -> None:
        """Give back what is no longer alive."""
        gc.collect()
        torch.cuda.empty_cache()

    def graph(self, step: Callable[[], None]) -> Callable[[], None]:
        """``step`` recorded as a CUDA graph, after a few runs that warm its kernels up; a call replays it."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def about(self) -> dict[str, Any]:
        """Card, driver and versions."""
        properties = torch.cuda.get_device_properties(0)
        return {
            "device": self.name,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }


def find_device() -> Device:
    """The GPU where there is one."""
    return Cuda() if torch.cuda.is_available() else Device()


@dataclass
class Timing:
    """Seconds of each timed call, and the memory they took."""

    seconds: list[float] = field(default_factory=list)
    first: float = 0.0
    """Seconds of the first call, which warms up."""
    peak_bytes: int = 0
    reserved_bytes: int = 0

    @property
    def typical(self) -> float:
        """Median."""
        return median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Figures for the results."""
        return {
            "step_s": self.typical,
            "steps_s": self.seconds,
            "first_step_s": self.first,
            "peak_gb": self.peak_bytes / 1e9,
            "reserved_gb": self.reserved_bytes / 1e9,
        }


def timed(
    device: Device, call: Callable[[], Any], *, seconds: float, least: int = 2, most: int = 20, warm: int = 1
) -> Timing:
    """Time ``call``: ``warm`` times to warm up, then for ``seconds``, at least ``least`` and at most ``most`` times."""
    timing = Timing()
    device.reset_peak()
    begun = time.perf_counter()
    call()
    device.synchronize()
    timing.first = time.perf_counter() - begun
    for _ in range(warm - 1):
        call()
    device.synchronize()
    begun = time.perf_counter()
    while len(timing.seconds) < least or (time.perf_counter() - begun < seconds and len(timing.seconds) < most):
        start = time.perf_counter()
        call()
        device.synchronize()
        timing.seconds.append(time.perf_counter() - start)
    timing.peak_bytes, timing.reserved_bytes = device.peak_bytes(), device.reserved_bytes()
    return timing
