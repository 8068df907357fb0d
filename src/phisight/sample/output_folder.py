"""The folder a sample is written to: whole or not at all, and never over something else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phisight.core.dataset_folder import CARD
from phisight.core.errors import SampleError
from phisight.sample.card import SAMPLE


@contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that appears under ``out`` when the block ends well; what stood there before stays until then."""
    check_free(out, overwrite)
    partial = out.parent / f".{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(out: Path, overwrite: bool) -> None:
    """SampleError unless ``out`` is free, or holds an earlier sample that may be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise SampleError(f"{out} is a file, not a folder; choose another --out")
    held = sum(1 for _ in out.iterdir())
    if not held or (overwrite and (out / SAMPLE).is_file() and (out / CARD).is_file()):
        return
    if (out / SAMPLE).is_file():
        raise SampleError(f"{out} already holds a sample; pass --overwrite to replace it, or choose another --out")
    raise SampleError(f"{out} holds {held} files that are no sample; choose another --out (nothing was touched)")
