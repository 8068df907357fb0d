"""The encoding of a text file: what its first bytes prove, and what to say where UTF-8 is wrong."""

from __future__ import annotations

import codecs
import itertools
import re
from pathlib import Path

from phisight.core.errors import SettingsError, SourceError

DEFAULT = "utf-8-sig"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_LOOKED_AT = 65536
_WESTERN = ("cp1252", "cp1250", "cp1251", "shift_jis", "gb18030", "euc_kr", "big5")
_ASIAN = ("shift_jis", "gb18030", "euc_kr", "big5", "cp1251", "cp1252")
_HIGH = re.compile(rb"[\x80-\xff]+")


def known_encoding(name: str) -> str:
    """The name of a text encoding; SettingsError for one that Python does not know."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise SettingsError(
            f"--encoding {name!r} is no text encoding; use utf-8, utf-16, latin-1, cp1252, gb18030, shift_jis ..."
        ) from None
    return name


def text_encoding(path: Path, wanted: str = DEFAULT) -> str:
    """The encoding that was asked for; by default UTF-8, or what a byte order mark or zero bytes prove."""
    if known_encoding(wanted) != DEFAULT:
        return wanted
    with path.open("rb") as file:
        start = file.read(4096)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    pairs = len(start) // 2
    if pairs >= 8 and start[1::2].count(0) > 0.4 * pairs and start[::2].count(0) < 0.1 * pairs:
        return "utf-16-le"
    if pairs >= 8 and start[::2].count(0) > 0.4 * pairs and start[1::2].count(0) < 0.1 * pairs:
        return "utf-16-be"
    return DEFAULT


def wrong_encoding(path: Path, error: UnicodeDecodeError) -> SourceError:
    """Which byte is wrong, and how other encodings would read it."""
    found = next(itertools.islice(_wrong_bytes(path), 1), b"")
    runs = [len(run) for run in _HIGH.findall(found)]
    names = _ASIAN if sum(runs) > 2 * len(runs) else _WESTERN
    shown = []
    for name in names:
        try:
            text = found.decode(name)
        except UnicodeDecodeError:
            continue
        if text.isprintable():
            shown.append(f"--encoding {name} reads {text!r}")
    hint = "; ".join(shown[:3]) or "name its encoding with --encoding (latin-1, cp1252, ...)"
    return SourceError(f"{path}: byte {error.start} is no {error.encoding}; save the file as UTF-8, or: {hint}")


def _wrong_bytes(path: Path) -> list[bytes]:
    """The first words of a file that are no UTF-8, with what stands around them."""
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    words = re.split(rb"[,;\t|\r\n\"]+", start)[:-1] or [start[:60]]
    return [word[:60] for word in words if _is_wrong(word)]


def _is_wrong(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return True
    return False
