"""Every page as Markdown beside its HTML, ``llms.txt`` that lists them, and ``llms-full.txt`` that holds them all.

For programs that read documentation: https://llmstxt.org.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_markdown(site: Path, pages: Mapping[str, str], nav: Sequence[Any], *, head: str, address: str) -> None:
    """Write pages and lists into a built site.

    Args:
        site: The built site.
        pages: Place on the site -> Markdown.
        nav: The navigation, whose sections are those of ``llms.txt``.
        head: What both lists begin with.
        address: Where the site will be, with a slash at the end.
    """
    lines, whole = [head], [head]
    for entry in nav:
        for section, value in entry.items():
            lines += ["", f"## {section}", ""]
            for place in named([value]):
                lines.append(f"- [{title_of(pages[place])}]({address}{place})")
                whole += ["", pages[place].strip()]
    for place, text in pages.items():
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        (site / place).write_text(text, encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(whole) + "\n", encoding="utf-8")


def title_of(text: str) -> str:
    """The first heading of a page."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    assert found, f"a page without a heading: {text[:60]!r}"
    return found[1]


def named(nav: Sequence[Any]) -> list[str]:
    """Every page that a navigation names, in its order."""
    found: list[str] = []
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += named(value) if isinstance(value, list) else [value]
    return found
