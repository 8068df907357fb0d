"""The process group of a run: rank zero acts for all, and no rank waits forever.

    torchrun --nproc-per-node 2 -m phisight train RECIPE.yaml

A process that dies closes its connections, which ends the others at once; one that hangs ends them after ``TIMEOUT``.
What rank zero does for all may take any time: the others wait on a group with a timeout of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from phisight.core.environment import is_first, local_rank, world_size
from phisight.core.errors import RankError, RunError

TIMEOUT = timedelta(minutes=30)
"""Timeout of a collective within a step."""
LONG_WAIT = timedelta(days=7)
"""Timeout of waiting for what rank zero does for all, such as filling a cache."""

T = TypeVar("T")
_waiting: Any = None
"""Group on which the others wait while rank zero works."""


@contextlib.contextmanager
def joined(timeout: timedelta = TIMEOUT) -> Iterator[None]:
    """Initialize the process group, if there are several ranks, and destroy it after a good end."""
    global _waiting
    if world_size() == 1 or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timeout)
    _waiting = dist.new_group(backend="gloo", timeout=LONG_WAIT)
    try:
        yield
        dist.barrier(_waiting)
    finally:
        _waiting = None
        dist.destroy_process_group()


def on_rank_zero(action: Callable[[], T]) -> T:
    """Run ``action`` on rank zero and broadcast its result; its error there is a RankError on the others."""
    if not _distributed():
        return action()
    result: list[Any] = [None, None]
    error: BaseException | None = None
    if is_first():
        try:
            result[0] = action()
        except Exception as found:
            error, result[1] = found, " ".join(str(found).split())
    dist.broadcast_object_list(result, src=0, group=_waiting)
    if error is not None:
        raise error
    if result[1] is not None:
        raise RankError(f"rank zero of the run ended: {result[1]}")
    return cast(T, result[0])


def on_each_node(action: Callable[[], T]) -> T:
    """Run ``action`` on rank zero, then on the first rank of every other node, whose disk may be another one.

    Returns the result of rank zero. An error on another node is raised there, and is a RankError elsewhere.
    """
    result = on_rank_zero(action)
    error: Exception | None = None
    if local_rank() == 0 and not is_first():
        try:
            action()
        except Exception as found:
            error = found
    barrier()
    failed = any_rank(error is not None)
    if error is not None:
        raise error
    if failed:
        raise RankError("another node of the run ended; see its output for the reason")
    return result


def require_shared(path: Path) -> None:
    """RunError on every rank where some rank does not see a file that rank zero has written."""
    if any_rank(not path.exists()):
        raise RunError(
            f"{path.parent} is not the same folder on all nodes: {path.name}, which rank zero has written, is missing "
            "on some; put the run folder on a disk that all nodes share (caches may stay on each node's own)"
        )


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank; every rank gets the same result."""
    if not _distributed():
        return flag
    flags = torch.tensor(int(flag))
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags)


def gather_numbers(values: list[float]) -> list[list[float]]:
    """Numbers of every rank, on all ranks, in their order."""
    if not _distributed():
        return [values]
    mine = torch.tensor(values, dtype=torch.float64)
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, mine)
    return [one.tolist() for one in gathered]


def barrier() -> None:
    """Barrier without a short timeout: rank zero may work for long before it arrives."""
    if _distributed():
        dist.barrier(_waiting)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
