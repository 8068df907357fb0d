"""Tensors on disk that are computed once and read in every later epoch and run, within a bound on disk.

    FOLDER/<key>/<name>.safetensors

The key is a hash of all that the tensors depend on besides what their name says: another model has another folder.
Files are written atomically, so a stopped run continues where it was. The bound holds for the whole folder; folders of
other keys are evicted first, the least recently used (LRU) before the others.
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
"""Bytes of a file besides its values, at most."""


def key_of(settings: Mapping[str, Any], weights: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of settings (as JSON) and named weights: 32 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, values in sorted(weights):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


class TensorStore:
    """Files of one key; each holds the tensors ``names``."""

    def __init__(self, folder: Path, key: str, names: Collection[str]) -> None:
        self.folder = folder / key
        self.names = set(names)

    def path(self, name: str) -> Path:
        """File of a name."""
        return self.folder / f"{name}.safetensors"

    def load(self, name: str) -> dict[str, Tensor]:
        """Tensors of a file, memory-mapped; FeatureCacheError when the file is missing or damaged."""
        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                return {one: file.get_tensor(one) for one in self.names}
        except (OSError, SafetensorError) as error:
            raise FeatureCacheError(
                f"{path} cannot be read ({' '.join(str(error).split())[:120]}); was it deleted or overwritten while "
                "training ran? Start again: it is recomputed"
            ) from error

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write the tensors of a file atomically."""
        with atomic_file(self.path(name)) as file:
            file.write(save({one: tensor.contiguous().cpu() for one, tensor in tensors.items()}))

    def lacks(self, name: str) -> bool:
        """Whether the file is missing or damaged."""
        try:
            with safe_open(self.path(name), framework="pt") as file:
                return set(file.keys()) != self.names
        except (OSError, SafetensorError):
            return True

    def make_room(self, wanted: Collection[str], needed: int, bound: int) -> bool:
        """Whether the ``needed`` bytes of the ``wanted`` files fit into ``bound`` bytes; evicts what that takes.

        Folders of other keys go first, the least recently used before the others, then files of other names.
        """
        if needed > bound:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)
        folders = sorted((one for one in self.folder.parent.iterdir() if _is_key(one)), key=_last_used)
        others = [path for path in self.folder.glob("*.safetensors") if path.stem not in wanted]
        removable = [folder for folder in folders if folder != self.folder] + others
        excess = needed + sum(map(_size, removable)) - bound
        for path in removable:
            if excess <= 0:
                break
            excess -= _size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True


def _is_key(path: Path) -> bool:
    """Only folders that this module created are ever deleted."""
    return path.is_dir() and len(path.name) == 32 and set(path.name) <= set("0123456789abcdef")


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def _size(path: Path) -> int:
    return sum(map(_size, path.iterdir())) if path.is_dir() else path.stat().st_size
