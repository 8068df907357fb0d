"""The result of one image or row: a stored image with its description, or a rejection with kind and reason.

KINDS is the only table of rejection kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from phisight.core.errors import DataError

Persistence = Literal["transient", "limits", "permanent"]
"""transient: a second build tries again. limits: other limits may accept it. permanent: not tried again."""

KINDS: dict[str, tuple[Persistence, str]] = {
    # rows
    "malformed_row": ("permanent", "the line is no row of the table"),
    "no_key": ("permanent", "the key is empty"),
    "no_image": ("permanent", "the row names no image"),
    "empty_field": ("permanent", "a field of the task is empty"),
    "bad_value": ("permanent", "a field of the task has the wrong type"),
    "special_token": ("permanent", "a field holds a special token of chat models, such as <|end|>"),
    "unwritable_answer": ("permanent", "the answer could not be read back"),
    "further_image": ("permanent", "the product has as many images as asked for"),
    "other_question": ("permanent", "the row asks another question than the task"),
    # addresses and files
    "bad_url": ("permanent", "the address is no http or https address"),
    "private_address": ("limits", "the name leads to a private, loopback or link-local address"),
    "outside_root": ("limits", "the path leads out of the folder that images may lie in"),
    "missing_file": ("transient", "there is no such file"),
    # network
    "no_address": ("transient", "the name cannot be resolved"),
    "connection": ("transient", "the connection failed or was cut"),
    "timeout": ("transient", "the time limit was reached"),
    "rate_limited": ("transient", "the server asked for a pause that is too long (429)"),
    "server_error": ("transient", "the server failed (5xx)"),
    "not_found": ("permanent", "the server has no such image (404, 410)"),
    "http_status": ("permanent", "the server rejected (other 4xx)"),
    "redirects": ("permanent", "too many redirects, or one without a target"),
    "incomplete": ("transient", "fewer bytes arrived than were announced"),
    "bad_encoding": ("permanent", "the body is not what its content encoding says"),
    # bytes
    "too_large": ("limits", "the file holds more bytes than allowed"),
    "too_many_pixels": ("limits", "the image has more pixels than allowed"),
    "too_small": ("limits", "the image has a side shorter than allowed"),
    "elongated": ("permanent", "the image is more than 336 times as long as wide"),
    "value_range": ("permanent", "deep gray values whose range cannot be told"),
    "empty_body": ("permanent", "there are no bytes"),
    "html": ("permanent", "a web page instead of an image"),
    "not_an_image": ("permanent", "none of the known image formats"),
    "no_decoder": ("transient", "the format needs a package that is not installed"),
    "truncated": ("permanent", "only a part of the image is there"),
    "too_many_scans": ("permanent", "the JPEG has more scans, or the TIFF more directories, than allowed"),
    "decode_time": ("permanent", "decoding took longer than allowed"),
    "corrupt": ("permanent", "the image cannot be decoded"),
    # phisight's own
    "internal": ("transient", "an error of phisight or of a library it uses"),
}


class Rejection(DataError):  # noqa: N818 - returned as often as raised
    """One row or image that is not let in; ``kind`` is a key of KINDS, ``reason`` one line without secrets."""

    def __init__(self, kind: str, reason: str) -> None:
        assert kind in KINDS, kind
        super().__init__(reason)
        self.kind = kind
        self.reason = reason

    def __reduce__(self) -> tuple[type[Rejection], tuple[str, str]]:
        return Rejection, (self.kind, self.reason)


def internal(error: Exception) -> Rejection:
    """The rejection for an exception nobody expected: its name and place, never its text, which may hold data."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = "" if at is None else f" in {Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}"
    return Rejection("internal", f"{type(error).__name__}{place}")


@dataclass(frozen=True)
class StoredImage:
    """An image that is in the folder."""

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
    colors: str
    """Mean colors of a 4 x 4 grid, RGB bytes in hex (96 digits)."""
    notes: str = ""
    """What was noticed or done, names of NOTES joined by commas."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``as_dict``; also what an earlier phisight wrote."""
        return cls(**{"colors" if name == "colours" else name: value for name, value in values.items()})


NOTES: dict[str, str] = {
    "animated": "more than one frame: the first was kept",
    "cmyk": "CMYK: converted to RGB",
    "palette": "palette colors",
    "16bit": "16 bits a channel: scaled to 8",
    "alpha": "transparency: put on white",
    "oriented": "EXIF orientation: applied, encoded anew",
    "converted": "another format: encoded anew",
    "one_colour": "one color only",
    "tiny": "a side under 32 pixels",
    "damaged": "more compressed data than pixels: damaged inside, or padded; look at it",
    "leading": "bytes before the image: cut off",
    "trailing": "bytes after the end of the image: cut off",
}
