"""Whole weights with everything that belongs beside them, into a new folder: whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from phisight.core.errors import PhisightError, StorageError
from phisight.core.run_folder import UNFAMILIAR
from phisight.export.merge import Adapters, write_merged
from phisight.export.model_folder import (
    copy_familiarity,
    copy_number_head,
    require_layout,
    write_config,
    write_processor,
)
from phisight.export.subject import Subject
from phisight.model.number_head import NUMBER_HEAD

PARTIAL = ".phisight-partial"
"""Ending of the folder that is being written: beside a new one, inside one that is there."""
_LAST = "config.json"
"""What makes a folder a model; moved last."""


def write_whole(subject: Subject, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a model, its adapters merged, in the official layout.

    Args:
        subject: What is written.
        folder: The folder to make.
        dtype: Type of the weights; None keeps the one of the files.
    """
    with whole_or_not_at_all(folder) as partial:
        write_model(subject, partial, dtype, loaded=dtype)


def write_model(
    subject: Subject,
    out: Path,
    dtype: torch.dtype | None,
    *,
    loaded: torch.dtype | None = None,
    remote_code: bool = False,
) -> None:
    """Weights, configuration, processor and number head into a folder that exists; CheckpointError where they differ
    from the model that the configuration describes.

    ``loaded`` is the type that the weights have in memory where the model is scored.
    """
    adapters = [Adapters.read(layer, loaded) for layer in subject.layers]
    write_processor(subject.processor, out, **subject.processor_hub)
    config = write_config(subject.weights, out, dtype, remote_code=remote_code, **subject.hub)
    require_layout(write_merged(subject.weights, adapters, out, dtype, **subject.hub), config)
    copy_number_head(subject.file(NUMBER_HEAD), out)
    copy_familiarity(subject.file(UNFAMILIAR), out)


def require_free(folder: Path) -> bool:
    """Whether nothing is in the way of a new folder: it is not there, or empty but for what a killed export left."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(path.name == PARTIAL for path in folder.iterdir())


@contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """A folder to write in, which becomes ``folder`` when the block ends well, and goes when it does not.

    A folder that is there (a mounted volume, say) stays, and gets the files one after the other, ``config.json`` last.
    """
    folder = Path(os.path.realpath(folder))  # a link keeps pointing where it does
    inside = folder.is_dir()
    partial = folder / PARTIAL if inside else folder.with_name(f".{folder.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if inside:
            for path in sorted(partial.iterdir(), key=lambda path: path.name == _LAST):
                path.rename(folder / path.name)
        else:
            partial.rename(folder)
    except PhisightError:
        raise
    except Exception as error:  # the tokenizer's library raises a bare Exception on a full disk
        if not isinstance(error, OSError | SafetensorError) and "os error" not in str(error).lower():
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
