"""Training state in a checkpoint, besides weights, optimizer and schedule: a resumed run repeats nothing.

trainer_state.json     steps, best evaluation, early stopping
progress.json          metrics since the last logged step, by rank; hash of the training rows; examples per step
trained.safetensors    trainable parameters that are in no other file (adapters, under their names in memory)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from phisight.core.errors import CheckpointError, RunError, some
from phisight.core.migrations import IMAGE_ROWS_IN_HASHES
from phisight.core.read_files import read_object
from phisight.core.run_folder import write_json, write_text_atomically
from phisight.data.dataset.image_groups import IMAGE_ROWS
from phisight.train.distributed.fsdp import shard_like

STATE = "trainer_state.json"
PROGRESS = "progress.json"
TRAINED = "trained.safetensors"
_FIRST_NAMES = {IMAGE_ROWS: IMAGE_ROWS_IN_HASHES}
"""Keys of rows in memory, and the names under which checkpoints have hashed them from the first."""


class TrainingState(BaseModel):
    """What a run knows of itself besides weights, optimizer and schedule.

    The names are those of transformers' Trainer, which wrote ``trainer_state.json`` in earlier versions.
    """

    model_config = ConfigDict(extra="ignore")

    global_step: int = 0
    """Optimizer steps done."""
    max_steps: int = 0
    """Optimizer steps planned when it was written."""
    epoch: float = 0.0
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    """Name of the checkpoint with the best saved evaluation."""
    not_improved: int = 0
    """Evaluations since the best one."""
    total_flos: float = 0.0
    """Floating-point operations of all steps, 6 per parameter and token, embeddings left out."""

    @classmethod
    def read(cls, checkpoint: Path) -> TrainingState:
        """State of a checkpoint, of earlier versions too."""
        try:
            values = read_object(checkpoint / STATE)
            stopping = values.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {}).get("attributes", {})
            values.setdefault("not_improved", stopping.get("early_stopping_patience_counter", 0))
            if values.get("best_model_checkpoint"):  # a path once; the run may have been moved since
                values["best_model_checkpoint"] = Path(values["best_model_checkpoint"]).name
            return cls.model_validate(values)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise _unreadable(checkpoint / STATE, error) from error

    def write(self, checkpoint: Path) -> None:
        """Save to a checkpoint."""
        # Without a finite evaluation the best is infinite, which JSON has in Python alone.
        write_text_atomically(checkpoint / STATE, json.dumps(self.model_dump(), indent=2) + "\n")


class Progress(BaseModel):
    """Running sums that continue after a stop, one entry per rank."""

    model_config = ConfigDict(extra="forbid")

    rows: str
    """``rows_hash`` of the training rows."""
    examples_a_step: int
    """Over micro-batches and ranks."""
    last_logged: int
    """Step of the last line with a training loss."""
    total_loss: float
    """Sum of the losses of all logged steps."""
    loss: list[float]
    """Sum of the losses since then, exact in float64."""
    padding: list[tuple[int, int]]
    """Tokens of all batches so far, without and with padding."""
    figures: list[dict[str, float]] = []
    """Sums of what the loss has measured since the last logged step; empty where it measures nothing."""

    def write(self, checkpoint: Path) -> None:
        """Save to a checkpoint."""
        write_json(checkpoint / PROGRESS, self.model_dump(exclude_defaults=True))

    @classmethod
    def read(cls, checkpoint: Path, rows: str, examples_per_step: int) -> Progress:
        """Progress of a checkpoint; RunError when it was trained on other rows or with steps of another size."""
        try:
            progress = cls.model_validate(read_object(checkpoint / PROGRESS))
        except (OSError, ValueError) as error:
            raise _unreadable(checkpoint / PROGRESS, error) from error
        if progress.rows != rows:
            raise RunError(
                f"{checkpoint} was trained on other rows than the data set holds now: the order of the data would not "
                "continue; restore the data set, or start a new run with --set out=DIR"
            )
        if progress.examples_a_step != examples_per_step:
            raise RunError(
                f"{checkpoint} was trained with {progress.examples_a_step} examples a step, now they are "
                f"{examples_per_step} (train.batch_size x train.accumulate x processes); make the product the same"
            )
        return progress

    def of(self, rank: int, ranks: int) -> tuple[float, tuple[int, int]]:
        """Loss and padding of one rank; shared out evenly where the number of ranks has changed."""
        if len(self.loss) == ranks:
            return self.loss[rank], self.padding[rank]
        real, total = (sum(one) // ranks for one in zip(*self.padding, strict=True))
        return sum(self.loss) / len(self.loss), (real, total)

    def figures_of(self, rank: int, ranks: int) -> dict[str, float]:
        """What the loss has measured, of one rank; shared out evenly where the number of ranks has changed."""
        if len(self.figures) == ranks:
            return self.figures[rank]
        return {name: sum(one[name] for one in self.figures) / ranks for name in (self.figures or [{}])[0]}


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}; delete this checkpoint")


def rows_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hash of the rows in their order, the same in every version of this package."""
    digest = hashlib.sha256()
    for row in rows:
        items = ((_FIRST_NAMES.get(name, name), repr(value)) for name, value in row.items())
        digest.update(repr(sorted(items)).encode())
    return digest.hexdigest()


def write_trained(model: nn.Module, checkpoint: Path, full: Mapping[str, Tensor] | None = None) -> None:
    """Save the trainable parameters that are in no weight file of the checkpoint, under their names in memory.

    ``full`` holds the values of a model whose own are sharded.
    """
    written = {name for path in _weight_files(checkpoint) for name in _names(path)}
    values = {name: value.detach() for name, value in _trained(model)} if full is None else full
    missing = {name: values[name] for name, _ in _trained(model) if name not in written}
    if missing:
        save_file({name: value.cpu().contiguous() for name, value in missing.items()}, checkpoint / TRAINED)


@torch.no_grad()
def read_trained(model: nn.Module, checkpoint: Path) -> None:
    """Load every trainable parameter from a checkpoint; CheckpointError names what is missing or mis-shaped."""
    wanted = dict(_trained(model))
    problems = []
    for path in [*_weight_files(checkpoint), checkpoint / TRAINED]:
        if not path.is_file():
            continue
        for name in _names(path):
            if name not in wanted:
                continue
            with safe_open(path, framework="pt") as file:
                value = file.get_tensor(name)
            if value.shape != wanted[name].shape or value.dtype != wanted[name].dtype:
                problems.append(f"{name} ({value.dtype} {list(value.shape)} in the file)")
            else:
                wanted[name].copy_(shard_like(value, wanted[name]))
            del wanted[name]
    problems += [f"{name} (not in the file)" for name in wanted]
    if problems:
        raise CheckpointError(f"{checkpoint} does not fit the model that trains: {some(problems)}")


def _trained(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)


def _weight_files(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob("model*.safetensors"))


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} cannot be read ({reason}); continue from an earlier checkpoint") from error
