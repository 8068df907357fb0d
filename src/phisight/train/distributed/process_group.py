"""Several processes of one run: they meet, one of them acts for all, and none waits for ever.

    torchrun --nproc-per-node 2 -m phisight train RECIPE.yaml

A process that dies closes its connections, which ends the others at once; one that hangs ends them after
``TIMEOUT``. Work that one process does for all may take as long as it takes: the others wait on a group of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from phisight.core.errors import RankError
from phisight.core.rank import is_first, local_rank, world_size

TIMEOUT = timedelta(minutes=30)
"""Longest wait for the others within a step."""
LONG_WAIT = timedelta(days=7)
"""Longest wait for what one process does for all, such as storing features."""

T = TypeVar("T")
_waiting: Any = None
"""Group on which the others wait while the first process works."""


@contextlib.contextmanager
def joined(timeout: timedelta = TIMEOUT) -> Iterator[None]:
    """Join the other processes of the run, if there are any, and part from them at a good end."""
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


def on_first(action: Callable[[], T]) -> T:
    """What ``action`` returns on the first process, to all; its error there is a RankError on the others."""
    if not _together():
        return action()
    box: list[Any] = [None, None]
    error: BaseException | None = None
    if is_first():
        try:
            box[0] = action()
        except Exception as found:
            error, box[1] = found, " ".join(str(found).split())
    dist.broadcast_object_list(box, src=0, group=_waiting)
    if error is not None:
        raise error
    if box[1] is not None:
        raise RankError(f"the first process of the run ended: {box[1]}")
    return cast(T, box[0])


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; every process gets the same answer."""
    if not _together():
        return flag
    raised = torch.tensor(int(flag))
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised)


def from_each(values: list[float]) -> list[list[float]]:
    """Numbers of every process, by rank, in all of them."""
    if not _together():
        return [values]
    mine = torch.tensor(values, dtype=torch.float64)
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, mine)
    return [one.tolist() for one in gathered]


def wait_for_all() -> None:
    """Go on when every process has come here, however long the first one works before it does."""
    if _together():
        dist.barrier(_waiting)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
