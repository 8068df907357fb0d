"""Translates errors of libraries and the system during training into named errors of one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch
import torch.distributed as dist

from phisight.core.errors import (
    DatasetError,
    MemoryLimitError,
    MissingImageError,
    PhisightError,
    RankError,
    WorkerError,
)
from phisight.core.settings import Recipe

_IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker process")
_DEAD_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\) (exited unexpectedly|is killed by signal)")
_LOST_RANK = re.compile(
    r"Connection (closed|reset)|Socket closed|Broken pipe|Timed out waiting|gloo|NCCL|process group", re.IGNORECASE
)


@contextlib.contextmanager
def translate_errors(recipe: Recipe) -> Iterator[None]:
    """Translate out of memory, a dead worker and a lost rank; remove the traceback from a worker's error."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryLimitError(
            f"{_first_line(error)}; {_what_to_lower(recipe)}; then continue with --resume"
        ) from error
    except PhisightError as error:
        if isinstance(error, MissingImageError) and not recipe.data.path.exists():
            raise DatasetError(
                f"the data set folder {recipe.data.path} is missing (moved, or its disk not mounted?); restore it, or "
                "set its new path with --set data.path=DIR, then continue with --resume"
            ) from None
        if _IN_WORKER.match(str(error)):
            raise type(error)(_last_line(error, type(error).__name__)) from None
        raise
    except (EOFError, ConnectionError) as error:
        if recipe.data.workers == 0:
            raise
        raise _dead_worker(recipe, error) from error  # it died while it sent a batch
    except RuntimeError as error:
        if _DEAD_WORKER.search(str(error)):
            raise _dead_worker(recipe, error) from error
        if dist.is_initialized() and _LOST_RANK.search(str(error)):
            raise RankError(
                f"another process of the run ended or does not answer ({_first_line(error)}); see its output for the "
                "reason; then continue with --resume"
            ) from error
        raise


def _dead_worker(recipe: Recipe, error: BaseException) -> WorkerError:
    return WorkerError(
        f"a data loading worker died ({type(error).__name__}: {_first_line(error)}), most often for lack of "
        f"memory; lower data.workers (now {recipe.data.workers}), then continue with --resume"
    )


def _what_to_lower(recipe: Recipe) -> str:
    """The setting that saves most memory at the least cost, for this recipe."""
    train = recipe.train
    if train.batch_size > 1:
        half = train.batch_size // 2
        return (
            f"lower train.batch_size from {train.batch_size} to {half} and raise train.accumulate from "
            f"{train.accumulate} to {-(-train.batch_size * train.accumulate // half)} (the same curve)"
        )
    if not train.gradient_checkpointing:
        return "set train.gradient_checkpointing to true (the same curve, a third slower)"
    if train.method == "full":
        return "use train.method lora, or train.fsdp over several GPUs"
    return "lower model.num_crops or data.max_length, or raise train.from_layer"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:200]


def _last_line(error: BaseException, kind: str) -> str:
    """The message that the worker raised: what follows the name of its type at the end of its traceback."""
    return str(error).rsplit(f"{kind}: ", 1)[-1].strip()
