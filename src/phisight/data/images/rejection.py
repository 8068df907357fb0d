"""What becomes of one image: stored with what is known of it, or refused with kind and reason.

The kinds are one literal table, so that a page, a test and a person count the same things.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from phisight.core.errors import DataError

Heals = Literal["later", "limits", "never"]
"""later: may come right by itself, a second run asks again. limits: other limits may let it in. never: settled."""

KINDS: dict[str, tuple[Heals, str]] = {
    # rows
    "malformed_row": ("never", "the line is no row of the table"),
    "no_key": ("never", "the key is empty"),
    "no_image": ("never", "the row names no image"),
    "empty_field": ("never", "a field of the task is empty"),
    "bad_value": ("never", "a field of the task has the wrong type"),
    "unwritable_answer": ("never", "the answer could not be read back"),
    "other_question": ("never", "the row asks another question than the task"),
    # addresses and files
    "bad_url": ("never", "the address is no http or https address"),
    "private_address": ("limits", "the name leads to a private, loopback or link-local address"),
    "outside_root": ("limits", "the path leads out of the image root"),
    "missing_file": ("later", "there is no such file"),
    # network
    "no_address": ("later", "the name cannot be resolved"),
    "connection": ("later", "the connection failed or was cut"),
    "timeout": ("later", "the time limit was reached"),
    "rate_limited": ("later", "the server asked for a pause that is too long (429)"),
    "server_error": ("later", "the server failed (5xx)"),
    "not_found": ("never", "the server has no such image (404, 410)"),
    "http_status": ("never", "the server refused (other 4xx)"),
    "redirects": ("never", "too many redirects, or one without a target"),
    "incomplete": ("later", "fewer bytes arrived than were announced"),
    "bad_encoding": ("never", "the body is not what its content encoding says"),
    # bytes
    "too_large": ("limits", "the file holds more bytes than allowed"),
    "too_many_pixels": ("limits", "the picture has more pixels than allowed"),
    "too_small": ("limits", "the picture has a side shorter than allowed"),
    "empty_body": ("never", "there are no bytes"),
    "html": ("never", "a web page instead of a picture"),
    "not_an_image": ("never", "none of the known picture formats"),
    "truncated": ("never", "only a part of the picture is there"),
    "corrupt": ("never", "the picture cannot be decoded"),
}


class Refusal(DataError):  # noqa: N818 - it is an outcome as often as it is raised
    """One row or image that is not let in; ``kind`` is a key of KINDS, ``reason`` one line without secrets."""

    def __init__(self, kind: str, reason: str) -> None:
        assert kind in KINDS, kind
        super().__init__(reason)
        self.kind = kind
        self.reason = reason

    def __reduce__(self) -> tuple[type[Refusal], tuple[str, str]]:
        return Refusal, (self.kind, self.reason)


@dataclass(frozen=True)
class StoredImage:
    """A picture that is in the folder."""

    file_name: str
    """Relative to the folder, made of the content: ``images/3f/3f9a....jpg``."""
    sha256: str
    """Of the stored file, in hex."""
    width: int
    height: int
    format: str
    """jpeg, png or webp: of the stored file."""
    size: int
    """Bytes of the stored file."""
    phash: str
    """Perceptual hash, 64 bits in hex."""
    colours: str
    """Mean colours of a 4 x 4 grid, RGB bytes in hex (96 digits)."""
    notes: str = ""
    """What was noticed or done, names of NOTES joined by commas."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``as_dict``."""
        return cls(**values)


NOTES: dict[str, str] = {
    "animated": "more than one frame: the first was kept",
    "cmyk": "CMYK: converted to RGB",
    "palette": "palette colours",
    "16bit": "16 bits a channel: scaled to 8",
    "alpha": "transparency: put on white",
    "oriented": "EXIF orientation: applied, encoded anew",
    "converted": "another format: encoded anew",
    "one_colour": "one colour only",
    "tiny": "a side under 32 pixels",
    "trailing": "bytes after the end of the picture: cut off",
}
