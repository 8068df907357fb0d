"""Which of several processes this is, as torchrun and accelerate say it in the environment. No torch."""

from __future__ import annotations

import os


def rank() -> int:
    """Number of this process among all of the run; 0 when it is alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Processes of the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this process writes and prints for all."""
    return rank() == 0
