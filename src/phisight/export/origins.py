"""Base model and data set of a run, so that a run that was moved still finds them.

    RUN/origins.json, RUN/best/origins.json
    {"format": "phisight-origins/1", "model": {"name", "absolute", "relative", "fingerprint"}, "data": {...}}

A folder is looked for under the name that was given, at its absolute place and at its place relative to the file; the
fingerprint tells it from another folder of that name. A hub name has neither place nor fingerprint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from phisight.core.errors import RunError
from phisight.core.read_files import read_object
from phisight.core.run_folder import UNFAMILIAR, write_text_atomically

ORIGINS = "origins.json"
SAMPLED_BYTES = 1 << 20
"""Bytes hashed at either end of each file: enough to tell files apart without reading gigabytes."""
_HASHED = ("config.json", "*.safetensors", "metadata.parquet")


class Origin(BaseModel):
    """One folder or hub name that a run was made from."""

    model_config = ConfigDict(extra="forbid")

    name: str
    """As it was given."""
    absolute: str | None = None
    """Where it was; None for a hub name."""
    relative: str | None = None
    """The same, seen from the folder of ``origins.json``."""
    fingerprint: str | None = None
    """See ``fingerprint_of``."""

    @classmethod
    def of(cls, name: str | Path, folder: Path) -> Self:
        """Describe a folder or a hub name for the ``origins.json`` in ``folder``."""
        path = Path(name)
        if not path.is_dir():
            return cls(name=str(name))
        place = path.resolve()
        return cls(
            name=str(name),
            absolute=place.as_posix(),
            relative=Path(os.path.relpath(place, folder.resolve())).as_posix(),
            fingerprint=fingerprint_of(place),
        )

    def find(self, what: str, folder: Path) -> str:
        """The folder where it is now, or the hub name; RunError says in one line where it was looked for."""
        if self.absolute is None:
            return self.name
        tried, other = [], False
        for place in dict.fromkeys((Path(self.name), folder / (self.relative or "."), Path(self.absolute))):
            if place.is_dir():
                if self.fingerprint in (None, fingerprint_of(place)):
                    return str(place)
                other = True
            tried.append(str(place))
        seen = "; a folder of that name holds other files" if other else ""
        raise RunError(
            f"{folder} was made from the {what} {self.name!r}, which is not at {' or '.join(tried)}{seen}; copy it to "
            f"one of these places, or write where it is into {folder / ORIGINS}"
        )


class Origins(BaseModel):
    """What ``origins.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["phisight-origins/1"] = "phisight-origins/1"
    model: Origin | None = None
    data: Origin | None = None

    def write(self, folder: Path) -> None:
        """Write ``origins.json`` into a folder, whole or not at all."""
        write_text_atomically(folder / ORIGINS, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The origins noted in a folder, none where it has no such file; RunError when the file cannot be read."""
        path = folder / ORIGINS
        if not path.is_file():
            return cls()
        try:
            return cls.model_validate(read_object(path))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {str(error).splitlines()[0]}; copy the run again") from error


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over names, sizes and both ends of a folder's configuration, weights and table; moving keeps it."""
    digest = hashlib.sha256()
    for path in _hashed_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(SAMPLED_BYTES))
            if size > SAMPLED_BYTES:
                file.seek(max(SAMPLED_BYTES, size - SAMPLED_BYTES))
                digest.update(file.read())
    return digest.hexdigest()


def _hashed_files(folder: Path) -> Iterator[Path]:
    for pattern in _HASHED:
        yield from sorted(path for path in folder.glob(pattern) if path.name != UNFAMILIAR)
