"""Save all of a run's state in a checkpoint, and restore it.

CHECKPOINT/model.safetensors | adapter_model.safetensors, config, processor    the model, ready to be loaded
CHECKPOINT/number_head.safetensors                                             its number head, where there is one
CHECKPOINT/optimizer.pt, scheduler.pt                                          read without pickle
CHECKPOINT/trainer_state.json, progress.json, trained.safetensors              training_state.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler

from phisight.core.environment import is_first
from phisight.core.errors import CheckpointError, PhisightError, some
from phisight.model.number_head import restoring_head, save_head, split_head_state
from phisight.train.checkpoint import manifest
from phisight.train.checkpoint.best_model import saving_options
from phisight.train.checkpoint.training_state import Progress, TrainingState, read_trained, write_trained
from phisight.train.distributed import process_group
from phisight.train.distributed.fsdp import full_state_dict, load_optimizer, save_optimizer
from phisight.train.distributed.placement import Placement

OPTIMIZER, SCHEDULE = "optimizer.pt", "scheduler.pt"


def save_checkpoint(
    folder: Path,
    placement: Placement,
    processor: Any,
    optimizer: AdamW,
    schedule: LRScheduler,
    state: TrainingState,
    progress: Progress,
) -> None:
    """Write the checkpoint of a step atomically, and delete older ones; called by all ranks, written by one.

    StorageError where it cannot be written; the one before remains.
    """
    model, step = placement.unwrapped, state.global_step
    older = manifest.checkpoint_steps(folder)
    remains = f"the checkpoint of step {older[0]} remains" if older else "there is no earlier checkpoint"
    with manifest.translate_write_errors(f"the checkpoint of step {step}", folder, remains):
        if is_first():
            manifest.clear_partial(folder)
        process_group.barrier()
        written = folder / manifest.PARTIAL / manifest.name_of(step)
        weights = full_state_dict(model) if placement.sharded else None
        if is_first():
            # Whole weights of a sharded model; else each class saves its own, adapters alone where there are some.
            model.save_pretrained(written, **saving_options(model, weights))
            processor.save_pretrained(written)
            save_head(model, written, split_head_state(weights or {})[1])
        if placement.sharded:
            save_optimizer(model, optimizer, written / OPTIMIZER, write=is_first())
        elif is_first():
            torch.save(optimizer.state_dict(), written / OPTIMIZER)
        if is_first():
            torch.save(schedule.state_dict(), written / SCHEDULE)
            write_trained(model, written, weights)
            state.write(written)
            progress.write(written)
            manifest.publish(folder, step)
            best = state.best_model_checkpoint
            manifest.prune(folder, manifest.step_of(Path(best)) if best else None)
        process_group.barrier()


def restore_weights(checkpoint: Path, placement: Placement) -> None:
    """Load every trainable parameter and the number head from a checkpoint."""
    with restoring_head(placement.unwrapped, checkpoint):
        read_trained(placement.unwrapped, checkpoint)


def restore_optimizer(checkpoint: Path, placement: Placement, optimizer: AdamW, schedule: LRScheduler) -> None:
    """Load optimizer and schedule from a checkpoint, whatever the number of ranks that wrote it."""
    with _named(checkpoint / OPTIMIZER):
        if placement.sharded:
            load_optimizer(placement.unwrapped, optimizer, checkpoint / OPTIMIZER)
        else:
            optimizer.load_state_dict(torch.load(checkpoint / OPTIMIZER, map_location="cpu", weights_only=True))
    restore_schedule(checkpoint, schedule)


def restore_schedule(checkpoint: Path, schedule: LRScheduler) -> None:
    """Load the schedule from a checkpoint; CheckpointError for a file that is damaged or another schedule's."""
    with _named(checkpoint / SCHEDULE):
        state = torch.load(checkpoint / SCHEDULE, map_location="cpu", weights_only=True)
        now = schedule.state_dict()
        held = [name for name in ("base_lrs", "last_epoch", "_last_lr", "lr_lambdas") if name in now]
        odd = [name for name in held if not _alike(state[name], now[name])]
        if odd:
            raise TypeError(f"{some(odd)} is another schedule's")
        schedule.load_state_dict(state)


def _alike(value: Any, other: Any) -> bool:
    """Whether a value of a schedule's state has the type of another, and as many entries."""
    if isinstance(other, list):
        return isinstance(value, list) and len(value) == len(other) and all(map(_alike, value, other))
    return isinstance(value, int | float) if isinstance(other, int | float) else isinstance(value, type(other))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what reading a damaged file of torch raises into a CheckpointError that names it."""
    try:
        yield
    except (PhisightError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch's own, pickle's, the archive's and those of values of another type
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} cannot be read ({reason}); continue from an earlier checkpoint") from error
