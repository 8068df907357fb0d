"""Freed memory goes back to the system at once, so that the resident set follows what is alive.

glibc keeps what is freed for the next request of a like size. Between the tensors of a forward pass that leaves holes,
a sixth of the peak of a model of 70 million weights; taken from the system and given back one by one, tensors of a
megabyte and more leave none, for about 3 % of the time. In a small model it would be 10 % of the time for few bytes.
"""

from __future__ import annotations

import ctypes
import sys

from torch import nn

LARGE = 64 * 2**20
"""Bytes of weights from which on the time is worth it."""
_MMAP_THRESHOLD = -3
"""``M_MMAP_THRESHOLD`` of malloc.h."""


def give_back_freed_memory(model: nn.Module) -> bool:
    """For a large model on a CPU, for the rest of the process; false where nothing was done (not glibc, too small)."""
    weights = sum(one.nbytes for one in model.parameters() if one.device.type == "cpu")
    if not sys.platform.startswith("linux") or weights < LARGE:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, 2**20))
