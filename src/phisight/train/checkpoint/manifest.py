"""Checkpoint folders: written atomically, each with the hashes of its files; the last valid one is never deleted.

    CHECKPOINTS/.partial/checkpoint-N/       being written; removed by the next one
    CHECKPOINTS/checkpoint-N/                all files synced, then the manifest, then renamed
    CHECKPOINTS/checkpoint-N/manifest.json   {"step": N, "files": {name: {"size": ..., "sha256": ...}}}

A checkpoint whose files do not match its manifest is skipped with a warning, and the one before it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from phisight.core.errors import PhisightError, StorageError
from phisight.core.read_files import read_object
from phisight.core.run_folder import write_json

MANIFEST = "manifest.json"
PARTIAL = ".partial"
KEEP_LAST = 2
"""Newest valid checkpoints that are kept, besides the best one."""

_WRITE = re.compile("PytorchStreamWriter|inline_container|iostream|write|File too large|No space", re.IGNORECASE)
"""Messages of the plain RuntimeError that torch raises on a full disk."""
_NAME = re.compile(r"checkpoint-(\d+)")


def name_of(step: int) -> str:
    """Folder name of a step's checkpoint."""
    return f"checkpoint-{step}"


def step_of(path: Path) -> int:
    """Step of a checkpoint folder."""
    found = _NAME.fullmatch(path.name)
    assert found, f"{path.name} is not the name of a checkpoint"
    return int(found[1])


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint folder, newest first; their files are not checked."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted((int(match[1]) for match in found if match), reverse=True)


def clear_partial(folder: Path) -> Path:
    """An empty folder to write a checkpoint in; what a killed process left there is deleted."""
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def publish(folder: Path, step: int) -> Path:
    """Sync the files of a written checkpoint, add the manifest, rename; returns its final folder."""
    written, final = folder / PARTIAL / name_of(step), folder / name_of(step)
    files = {path.relative_to(written).as_posix(): path for path in sorted(written.rglob("*")) if path.is_file()}
    manifest = {"step": step, "files": {name: _describe(path) for name, path in files.items()}}
    write_json(written / MANIFEST, manifest)
    for path in [*(path for path in written.rglob("*") if path.is_dir()), written]:
        _sync(path)
    if final.exists():  # invalid, or the run would have resumed from it
        final.rename(folder / PARTIAL / f"replaced-{step}")
    written.rename(final)
    _sync(folder)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return final


def defect(checkpoint: Path, *, hashes: bool = True) -> str | None:
    """What is wrong with a checkpoint; None where its files match its manifest."""
    try:
        manifest = read_object(checkpoint / MANIFEST)
        files = {str(name): (int(one["size"]), str(one["sha256"])) for name, one in manifest["files"].items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    for name, (size, digest) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if hashes and _describe(path)["sha256"] != digest:
            return f"{name} does not have the bytes that were written"
    return None


def latest_valid(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest valid checkpoint; ``warn`` is called for each one that is skipped."""
    for step in checkpoint_steps(folder):
        checkpoint = folder / name_of(step)
        problem = defect(checkpoint)
        if problem is None:
            return checkpoint
        warn(f"The checkpoint of step {step} is damaged ({problem}); using the one before.")
    return None


def prune(folder: Path, best: int | None, keep_last: int = KEEP_LAST) -> None:
    """Delete all but the newest ``keep_last`` valid checkpoints, the best one, and those newer than these."""
    valid = [step for step in checkpoint_steps(folder) if defect(folder / name_of(step), hashes=False) is None]
    if len(valid) < keep_last:
        return
    for step in checkpoint_steps(folder):
        if step < valid[keep_last - 1] and step != best:
            shutil.rmtree(folder / name_of(step), ignore_errors=True)


@contextlib.contextmanager
def translate_write_errors(what: str, folder: Path, remains: str) -> Iterator[None]:
    """Turn errors of writing files into a StorageError that says which checkpoint remains."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        by_torch = type(error) is RuntimeError and _WRITE.search(str(error))
        if isinstance(error, PhisightError) or not (by_torch or isinstance(error, OSError | SafetensorError)):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free / 1e9
        raise StorageError(
            f"{what} cannot be written to {folder} ({' '.join(str(error).split())[:160]}; {free:.2f} GB are free); "
            f"{remains}; free space or choose another folder, then continue with --resume"
        ) from error


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(folder: Path) -> None:
    """Sync a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
