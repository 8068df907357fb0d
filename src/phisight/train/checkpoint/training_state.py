"""What a run knows besides weights and optimizer, kept with each checkpoint so that going on repeats nothing.

progress.json    figures since the last logged step, by process; the rows that are trained on; examples a step
trained.safetensors    what trains and stands in no other file of the checkpoint (adapters, under their names in memory)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from phisight.core.errors import CheckpointError, RunError, some
from phisight.core.migrations import IMAGE_ROWS_IN_HASHES
from phisight.core.read_json import read_object
from phisight.core.run_folder import write_json
from phisight.data.dataset.image_groups import IMAGE_ROWS
from phisight.train.distributed.fsdp import like

PROGRESS = "progress.json"
TRAINED = "trained.safetensors"
_FIRST_NAMES = {IMAGE_ROWS: IMAGE_ROWS_IN_HASHES}
"""Keys of rows in memory, and the names under which checkpoints have hashed them from the first."""


class Progress(BaseModel):
    """Sums that go on over a stop, one entry a process."""

    model_config = ConfigDict(extra="forbid")

    rows: str
    """``rows_hash`` of the training rows."""
    examples_a_step: int
    """Over micro-batches and processes."""
    last_logged: int
    """Step of the last line with a training loss."""
    total_loss: float
    """Sum of the losses of all logged steps."""
    loss: list[float]
    """Sum of the losses since, exact in float64."""
    padding: list[tuple[int, int]]
    """Tokens and slots of all batches so far."""

    def write(self, checkpoint: Path) -> None:
        """Keep with a checkpoint."""
        write_json(checkpoint / PROGRESS, self.model_dump())

    @classmethod
    def read(cls, checkpoint: Path, rows: str, examples_a_step: int) -> Progress:
        """Progress of a checkpoint; RunError when it was made from other rows or steps of another size."""
        try:
            progress = cls.model_validate(read_object(checkpoint / PROGRESS))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"{checkpoint / PROGRESS} cannot be read: {reason}; delete this checkpoint") from error
        if progress.rows != rows:
            raise RunError(
                f"{checkpoint} was trained on other rows than the data set holds now: the order of the data would not "
                "go on; restore the data set, or start a new run with --set out=DIR"
            )
        if progress.examples_a_step != examples_a_step:
            raise RunError(
                f"{checkpoint} was trained with {progress.examples_a_step} examples a step, now they are "
                f"{examples_a_step} (train.batch_size x train.accumulate x processes); make the product the same"
            )
        return progress

    def of(self, rank: int, ranks: int) -> tuple[float, tuple[int, int]]:
        """Loss and padding of one process; shared out evenly where the number of processes has changed."""
        if len(self.loss) == ranks:
            return self.loss[rank], self.padding[rank]
        tokens, slots = (sum(one) // ranks for one in zip(*self.padding, strict=True))
        return sum(self.loss) / len(self.loss), (tokens, slots)


def rows_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hash of the rows in their order, the same in every version of this package."""
    digest = hashlib.sha256()
    for row in rows:
        items = ((_FIRST_NAMES.get(name, name), repr(value)) for name, value in row.items())
        digest.update(repr(sorted(items)).encode())
    return digest.hexdigest()


def write_trained(model: nn.Module, checkpoint: Path, whole: Mapping[str, Tensor] | None = None) -> None:
    """Keep what trains and is in no weight file of the checkpoint under its name in memory.

    ``whole`` holds the values of a model whose own are sharded.
    """
    written = {name for path in _weight_files(checkpoint) for name in _names(path)}
    values = {name: value.detach() for name, value in _trained(model)} if whole is None else whole
    missing = {name: values[name] for name, _ in _trained(model) if name not in written}
    if missing:
        save_file({name: value.cpu().contiguous() for name, value in missing.items()}, checkpoint / TRAINED)


@torch.no_grad()
def read_trained(model: nn.Module, checkpoint: Path) -> None:
    """Give everything that trains its value in the checkpoint; CheckpointError names what is missing or mis-shaped."""
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
                wanted[name].copy_(like(value, wanted[name]))
            del wanted[name]
    problems += [f"{name} (not in the file)" for name in wanted]
    if problems:
        raise CheckpointError(f"{checkpoint} does not fit the model that trains: {some(problems)}")


def _trained(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)


def _weight_files(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob("model*.safetensors"))


def _names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())
