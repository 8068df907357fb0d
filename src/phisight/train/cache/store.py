"""Tensors on disk that are computed once and read in every later epoch and run, within a bound.

    FOLDER/<key>/<name>.safetensors

The key is a hash of all that the tensors depend on besides what their name says: another model looks into another
folder. A file appears whole or not at all, so a run that was stopped goes on where it was. The bound holds for the
whole folder; what other keys left there goes first, the longest unused before the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from phisight.core.errors import FeatureCacheError
from phisight.core.run_folder import atomic_file

HEADER_BYTES = 256
"""Most bytes of a file besides its values."""


def key_of(settings: Mapping[str, Any], weights: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of settings (as JSON) and named weights: 32 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, values in sorted(weights):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


class TensorStore:
    """Files of one key; each holds the tensors ``holds``."""

    def __init__(self, folder: Path, key: str, holds: Collection[str]) -> None:
        self.folder = folder / key
        self.holds = set(holds)

    def path(self, name: str) -> Path:
        """File of a name."""
        return self.folder / f"{name}.safetensors"

    def load(self, name: str) -> dict[str, Tensor]:
        """Tensors of a name, mapped from disk; FeatureCacheError when the file is gone or damaged."""
        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                return {one: file.get_tensor(one) for one in self.holds}
        except (OSError, SafetensorError) as error:
            raise FeatureCacheError(
                f"{path} cannot be read ({' '.join(str(error).split())[:120]}); was it deleted or overwritten while "
                "training ran? Start again: it is computed anew"
            ) from error

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write the tensors of a name; whole or not at all."""
        with atomic_file(self.path(name)) as file:
            file.write(save({one: tensor.contiguous().cpu() for one, tensor in tensors.items()}))

    def lacks(self, name: str) -> bool:
        """There is no file of this name, or it is damaged."""
        try:
            with safe_open(self.path(name), framework="pt") as file:
                return set(file.keys()) != self.holds
        except (OSError, SafetensorError):
            return True

    def make_room(self, kept: Collection[str], needed: int, bound: int) -> bool:
        """Whether the ``needed`` bytes of the ``kept`` names fit into ``bound`` bytes on disk; frees what that takes.

        Folders of other keys go first, the longest unused before the others, then files of other names.
        """
        if needed > bound:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)
        folders = sorted((one for one in self.folder.parent.iterdir() if _is_key(one)), key=_last_used)
        strangers = [path for path in self.folder.glob("*.safetensors") if path.stem not in kept]
        removable = [folder for folder in folders if folder != self.folder] + strangers
        excess = needed + sum(map(_size, removable)) - bound
        for path in removable:
            if excess <= 0:
                break
            excess -= _size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True


def _is_key(path: Path) -> bool:
    """Only folders that this module made are ever deleted."""
    return path.is_dir() and len(path.name) == 32 and set(path.name) <= set("0123456789abcdef")


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def _size(path: Path) -> int:
    return sum(map(_size, path.iterdir())) if path.is_dir() else path.stat().st_size
