"""Text as shops export it, made fit to train on: HTML decoded, characters that no text holds removed, each said."""

from __future__ import annotations

import html
import html.entities
import re
from typing import NamedTuple

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_NAMES = """
a abbr address article aside b big blockquote body br button caption center code dd del div dl dt em figcaption
figure font footer h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins label li link main mark meta nav ol
option p pre script section select small span strike strong style sub sup table tbody td tfoot th thead title tr tt
u ul video
"""
_TAG = re.compile(rf"</?(?:{'|'.join(_NAMES.split())})(?:\s[^<>]{{0,2000}})?/?>", re.IGNORECASE)
_HIDDEN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200b\u2060\ufffe\uffff\ufff9-\ufffb]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LINES = re.compile(r"[\r\n\u2028\u2029\x0b\x0c\x85]+")
_WINDOWS = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}

REMARKS = {
    "surrogates": "half of a character outside the basic plane (a cut or wrongly joined text): completed or removed",
    "escapes": "terminal escape sequences: removed",
    "markup": "HTML tags: removed",
    "entities": "HTML entities such as &amp;trade;: decoded",
    "controls": "control characters: removed",
    "lines": "line breaks: a space in their place",
}
"""What may have been changed in a text, by the name that ``CleanText.changes`` uses."""


class CleanText(NamedTuple):
    """A text fit to train on, and what was changed to get there (names of ``REMARKS``)."""

    text: str
    changes: tuple[str, ...]


def clean_text(text: str) -> CleanText:
    """Repair a text: one line, without markup, entities, control characters, escape sequences and lone surrogates.

    ``AT&T``, ``a < b`` and ``&copy`` without its semicolon stay as they are; accents and the marks of all scripts, too.
    """
    steps = (
        ("surrogates", _joined),
        ("escapes", lambda one: _ESCAPE.sub("", one)),
        ("entities", _decoded),
        ("markup", _without_tags),
        ("controls", _without_controls),
    )
    changes = []
    for name, step in steps:
        changed = step(text)
        if changed != text:
            changes.append(name)
        text = changed
    if _LINES.search(text.strip()):
        changes.append("lines")
    return CleanText(" ".join(text.split()), tuple(changes))


def _joined(text: str) -> str:
    """Pairs of surrogates as the character they mean; lone ones removed."""
    if not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub("", text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")).replace(
        "\ufffd", ""
    )


def _decoded(text: str) -> str:
    """Entities with their semicolon, as often as they were encoded (twice: ``&amp;trade;``)."""
    for _ in range(3):
        again = _ENTITY.sub(_one_decoded, text)
        if again == text:
            break
        text = again
    return text


def _one_decoded(match: re.Match[str]) -> str:
    known = match[0][1] == "#" or match[0][1:] in html.entities.html5
    return html.unescape(match[0]) if known else match[0]


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    return _TAG.sub(" ", _HIDDEN.sub(" ", text))


def _without_controls(text: str) -> str:
    """Without control characters; what Windows puts in the second block (0x80 to 0x9f) is what it means there."""
    return _CONTROL.sub(
        lambda one: " " if one[0] in "\x0b\x0c\x85\u2028\u2029" else _WINDOWS.get(ord(one[0]), ""), text
    )
