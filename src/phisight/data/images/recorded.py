"""An image of a data set: its file, the hash that the table records for it, and the row it belongs to.

What is read must be what was recorded: else the table, cached features and answers speak of another image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from phisight.core.errors import ChangedImageError
from phisight.data.images.decode import ImageLimits, decode_bytes, read_image
from phisight.data.images.verify import damaged

_compared: set[tuple[str, str, int, int]] = set()
"""Path, hash, size and time of change of files that were found equal: none is hashed again while it stays as it is."""


@dataclass(frozen=True)
class RecordedImage:
    """One image file; without a hash any bytes are taken."""

    path: Path
    sha256: str = ""
    """Of the stored file, in hex; empty where the table has none."""
    row: str = ""
    """Key of the row, for messages."""
    limits: ImageLimits = field(default_factory=ImageLimits)
    """Those of the build."""

    def load(self) -> Image.Image:
        """RGB pixels.

        Raises:
            ChangedImageError: The bytes are not those that were stored.
            MissingImageError: The file is not there.
            UnreadableImageError: It is no image.
        """
        name = f"row {self.row!r}: {self.path}" if self.row else str(self.path)
        data = read_image(self.path, self.limits, name)
        if self.sha256 and not self._is_compared():
            if hashlib.sha256(data).hexdigest() != self.sha256:
                raise self._changed()
            self._remember()
        return decode_bytes(data, name, self.limits, checked=bool(self.sha256))

    def content(self) -> str:
        """What names its bytes: the recorded hash, else the hash of the file; empty for a file that is not there."""
        if self.sha256:
            return self.sha256
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.is_file() else ""
        except OSError:
            return ""

    def _is_compared(self) -> bool:
        key = self._key()
        return key is not None and key in _compared

    def _remember(self) -> None:
        if (key := self._key()) is not None:
            _compared.add(key)

    def _key(self) -> tuple[str, str, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return str(self.path), self.sha256, found.st_size, found.st_mtime_ns

    def _changed(self, others: int = 0) -> ChangedImageError:
        more = f" (and {others} more)" if others else ""
        return ChangedImageError(
            f"row {self.row!r}: {self.path} is not the image that was stored{more}: it changed, or is damaged; run the "
            "same `phisight data build` again, which restores it"
        )


def require_unchanged(images: Iterable[RecordedImage]) -> None:
    """ChangedImageError when some file is there but is not what was recorded; names the first, counts the others."""
    waiting = {str(one.path): one for one in images if one.sha256 and not one._is_compared()}
    wrong = [path for path in damaged((path, one.sha256) for path, one in waiting.items()) if path.is_file()]
    if wrong:
        raise waiting[str(wrong[0])]._changed(len(wrong) - 1)
    for one in waiting.values():
        one._remember()
