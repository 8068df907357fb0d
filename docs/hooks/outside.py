"""Documents outside docs/ as pages of the site, and links between all of them.

A link in a document is relative to where the file lies in the repository, so that it works there; on the site the same
documents lie elsewhere, and ``site_links`` says where.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]

RENAMED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "src/phisight/model/tiny-base/README.md": "tiny-base.md",
}
"""Place in the repository -> place on the site, for documents that lie elsewhere."""

FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
MARKS = re.compile(r"^(```+)([\w-]+) [^\n]*$", re.MULTILINE)


def outside_pages() -> dict[str, str]:
    """Place on the site -> place in the repository, for every page that does not lie in docs/."""
    results = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    named = {site: place for place, site in RENAMED.items()}
    return named | {place: place for path in results if (place := path.relative_to(ROOT).as_posix())}


def on_site(place: str) -> str | None:
    """Where a file of the repository lies on the site; None where it is no part of it."""
    if place in RENAMED:
        return RENAMED[place]
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    return place if place.startswith("benchmarks/results/") else None


def site_links(text: str, place: str, page: str) -> str:
    """The text of a document with its links as the site needs them; one that leads off the site stays as it is.

    Args:
        text: Markdown of the document.
        place: Where it lies in the repository, such as ``docs/data.md``.
        page: Where it lies on the site, such as ``data.md``.
    """

    def replaced(match: re.Match[str]) -> str:
        target, hash_sign, anchor = match[1].partition("#")
        there = None if not target or ":" in target else on_site(os.path.normpath(PurePosixPath(place).parent / target))
        if there is None:  # on this page, on the net, or no part of the site, which a strict build reports
            return match[0]
        return f"]({os.path.relpath(there, PurePosixPath(page).parent)}{hash_sign}{anchor})"

    pieces = FENCE.split(text)
    return "".join(piece if piece.startswith("```") else LINK.sub(replaced, piece) for piece in pieces)


def plain_fences(text: str) -> str:
    """The text without what stands behind the language of a fenced block: marks for the tests of the documents."""
    return MARKS.sub(r"\1\2", text)
