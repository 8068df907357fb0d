"""Whole weights with everything that belongs beside them, into a new folder: whole or not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from phisight.core.errors import StorageError
from phisight.export.merge import Adapters, write_merged
from phisight.export.model_folder import copy_number_head, require_layout, write_config, write_processor
from phisight.export.subject import Subject


def write_whole(subject: Subject, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a model, its adapters merged, in the official layout.

    Args:
        subject: What is written.
        folder: The folder to make.
        dtype: Type of the weights; None keeps the one of the files.
    """
    with whole_or_not_at_all(folder) as partial:
        write_model(subject, partial, dtype)


def write_model(subject: Subject, out: Path, dtype: torch.dtype | None, *, remote_code: bool = False) -> None:
    """Weights, configuration, processor and number head into a folder that exists; CheckpointError where they differ
    from the model that the configuration describes.
    """
    adapters = Adapters.read(subject.adapters) if subject.adapters else None
    write_processor(subject.processor, out)
    config = write_config(subject.weights, out, dtype, remote_code=remote_code)
    require_layout(write_merged(subject.weights, adapters, out, dtype), config)
    copy_number_head(subject.folder or Path(subject.weights), out)


@contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one that takes its name when the block ends well, and goes when it does not."""
    partial = folder.absolute().with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        free = shutil.disk_usage(_existing(folder)).free / 1e9
        raise StorageError(
            f"{folder} cannot be written ({' '.join(str(error).split())[:160]}; {free:.2f} GB are free); nothing is "
            "left of it and the run stands; make room or choose another folder with --out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _existing(folder: Path) -> Path:
    return next(path for path in [folder, *folder.absolute().parents] if path.exists())
