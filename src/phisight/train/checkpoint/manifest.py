"""Checkpoints on disk: whole or not there, each with the hashes of its files, and never the last good one deleted.

    CHECKPOINTS/.partial/checkpoint-N/   being written; swept away by the next one
    CHECKPOINTS/checkpoint-N/            all files on disk, then the manifest, then renamed
    CHECKPOINTS/checkpoint-N/manifest.json   {"step": N, "files": {name: {"size": ..., "sha256": ...}}}

A checkpoint whose files are not what its manifest says is passed over, with a word, for the one before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from phisight.core.errors import PhisightError, StorageError
from phisight.core.run_folder import write_json

MANIFEST = "manifest.json"
PARTIAL = ".partial"
KEPT = 2
"""Newest good checkpoints that are kept, besides the best one."""

_WRITE = re.compile("PytorchStreamWriter|inline_container|iostream|write|File too large|No space", re.IGNORECASE)
"""How torch names a full disk: a plain RuntimeError."""
_NAME = re.compile(r"checkpoint-(\d+)")


def name_of(step: int) -> str:
    """Folder name of a step's checkpoint."""
    return f"checkpoint-{step}"


def step_of(path: Path) -> int:
    """Step of a checkpoint folder."""
    found = _NAME.fullmatch(path.name)
    assert found, f"{path.name} is no name of a checkpoint"
    return int(found[1])


def steps_kept(folder: Path) -> list[int]:
    """Steps that have a checkpoint folder, newest first; their files have not been looked at."""
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted((int(match[1]) for match in found if match), reverse=True)


def clear_partial(folder: Path) -> Path:
    """The empty folder in which a checkpoint is written; what a killed process left there is gone."""
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def publish(folder: Path, step: int) -> Path:
    """Make the written checkpoint of a step a checkpoint: files to disk, manifest, rename. Returns its folder."""
    written, final = folder / PARTIAL / name_of(step), folder / name_of(step)
    files = {path.relative_to(written).as_posix(): path for path in sorted(written.rglob("*")) if path.is_file()}
    manifest = {"step": step, "files": {name: _describe(path) for name, path in files.items()}}
    write_json(written / MANIFEST, manifest)
    for path in [*(path for path in written.rglob("*") if path.is_dir()), written]:
        _sync(path)
    if final.exists():  # a broken one, or we would not be here
        final.rename(folder / PARTIAL / f"replaced-{step}")
    written.rename(final)
    _sync(folder)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return final


def fault(checkpoint: Path, *, hashes: bool = True) -> str | None:
    """What is wrong with a checkpoint, in a few words; none when its files are what its manifest says."""
    try:
        manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
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
            return f"{name} holds other bytes than were written"
    return None


def newest_good(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; ``say`` hears of each one that is passed over."""
    for step in steps_kept(folder):
        checkpoint = folder / name_of(step)
        problem = fault(checkpoint)
        if problem is None:
            return checkpoint
        say(f"Checkpoint of step {step} is broken ({problem}): passed over for the one before.")
    return None


def prune(folder: Path, best: int | None, kept: int = KEPT) -> None:
    """Delete all but the newest ``kept`` whole checkpoints and the best; those newer than these are left alone."""
    whole = [step for step in steps_kept(folder) if fault(folder / name_of(step), hashes=False) is None]
    if len(whole) < kept:
        return
    for step in steps_kept(folder):
        if step < whole[kept - 1] and step != best:
            shutil.rmtree(folder / name_of(step), ignore_errors=True)


@contextlib.contextmanager
def writing(what: str, folder: Path, stands: str) -> Iterator[None]:
    """Turn what goes wrong while files are written into a StorageError that tells what is left standing."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        by_torch = type(error) is RuntimeError and _WRITE.search(str(error))
        if isinstance(error, PhisightError) or not (by_torch or isinstance(error, OSError | SafetensorError)):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free / 1e9
        raise StorageError(
            f"{what} cannot be written to {folder} ({' '.join(str(error).split())[:160]}; {free:.2f} GB are free); "
            f"{stands}; make room or choose another folder, then go on with --resume"
        ) from error


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(folder: Path) -> None:
    """Bring a folder's names to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
