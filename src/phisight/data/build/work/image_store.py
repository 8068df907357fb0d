"""The folder of images of a build: bytes are checked and stored under a name made of their content."""

from __future__ import annotations

import os
from pathlib import Path

from phisight.data.build.work.worklog import cannot_write
from phisight.data.images.decode import ImageLimits, prepare_image
from phisight.data.images.rejection import Rejection, StoredImage, internal

ImageResult = StoredImage | Rejection


class ImageStore:
    """Decodes and checks bytes, and stores the image under a name made of its content."""

    def __init__(self, folder: Path, limits: ImageLimits) -> None:
        self.folder = folder
        self.limits = limits

    def decode_and_store(self, body: bytes) -> ImageResult:
        """Check a body and store its image; whole under its name, or not at all. StorageError when it cannot be."""
        try:
            stored, data = prepare_image(body, self.limits)
        except Rejection as rejection:
            return rejection
        except Exception as error:  # whatever an image holds, it never ends the build
            return internal(error)
        try:
            self.write(stored, data)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        return stored

    def write(self, stored: StoredImage, data: bytes) -> None:
        """Write the bytes of a checked image, unless they are there."""
        path = os.path.join(self.folder, stored.file_name)  # noqa: PTH118 - a fifth of a Path's time
        try:
            if os.stat(path).st_size == stored.size and Path(path).read_bytes() == data:  # noqa: PTH116
                return
        except FileNotFoundError:
            pass
        parent, name = os.path.split(path)
        temporary = f"{parent}/.{name}.{os.getpid()}.tmp"
        try:
            file = open(temporary, "wb", buffering=0)  # noqa: PTH123, SIM115
        except FileNotFoundError:
            Path(parent).mkdir(parents=True, exist_ok=True)
            file = open(temporary, "wb", buffering=0)  # noqa: PTH123, SIM115
        with file:
            file.write(data)
        os.replace(temporary, path)  # noqa: PTH105

    def read_file(self, path: str) -> bytes:
        """A file's bytes, no more than one over the limit; Rejection when it cannot be read."""
        try:
            with Path(path).open("rb") as file:
                return file.read(self.limits.max_bytes + 1)
        except OSError as error:
            raise Rejection("missing_file", f"the file cannot be read: {error.strerror}") from error
