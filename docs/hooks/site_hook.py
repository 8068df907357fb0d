"""The hook that ``mkdocs.yml`` names: adds pages, mends links, and looks at what was built."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[2]))  # mkdocs loads a hook by its file, without the package around it

from docs.hooks.llms import named, write_markdown
from docs.hooks.outside import ROOT, outside_pages, plain_fences, site_links
from docs.hooks.reference import REFERENCE

log = logging.getLogger("mkdocs.hooks.phisight")  # a warning of this logger ends a strict build

LOADED = re.compile(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(?P<src>https?:)?//", re.IGNORECASE)
STYLES = re.compile(
    r"<link\b(?=[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*href=[\"']?(?:https?:)?//", re.I
)
FETCHED = re.compile(r"@import\s+url\((?:https?:)?//|url\([\"']?(?:https?:)?//", re.IGNORECASE)


_pages: dict[str, str] = {}
"""Place on the site -> Markdown, of the pages of this build."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation: ``FOLDER/*`` stands for its pages, and a page that no section names comes under "More"."""
    nav = expanded(config.nav or [])
    left = sorted({path.name for path in (ROOT / "docs").glob("*.md")} - set(named(nav)))
    config.nav = [*nav, {"More": left}] if left else nav
    return config


def expanded(nav: list[Any]) -> list[Any]:
    """A navigation with each ``FOLDER/*`` replaced by the pages of the folder, in the order of their names."""
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and entry.endswith("/*"):
            base = ROOT if entry.startswith("benchmarks/") else ROOT / "docs"
            found += [path.relative_to(base).as_posix() for path in sorted(base.glob(f"{entry}.md"), key=_in_order)]
        elif isinstance(entry, dict):
            found.append({key: expanded(value) if isinstance(value, list) else value for key, value in entry.items()})
        else:
            found.append(entry)
    return found


def _in_order(path: Path) -> tuple[bool, str]:
    return path.name != "README.md", path.name


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, and the documents that lie outside docs/."""
    for page, made in REFERENCE.items():
        files.append(File.generated(config, page, content=made()))
    for page, place in outside_pages().items():
        files.append(File.generated(config, page, content=(ROOT / place).read_text(encoding="utf-8")))
    for data in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        files.append(File.generated(config, data.relative_to(ROOT).as_posix(), content=data.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links as the site needs them, fences without marks for the tests."""
    uri = page.file.src_uri
    made = uri in REFERENCE
    text = markdown if made else plain_fences(site_links(markdown, outside_pages().get(uri, f"docs/{uri}"), uri))
    _pages[uri] = text
    return text


def on_post_build(config: MkDocsConfig) -> None:
    """Write the pages as Markdown, then warn of what no site may hold: loads from elsewhere, paths of this machine."""
    site = Path(config.site_dir)
    head = f"# {config.site_name}\n\n> {config.site_description}"
    write_markdown(site, _pages, config.nav or [], head=head, address=config.site_url or "")
    for path in sorted(site.rglob("*")):
        if path.suffix in {".html", ".css", ".txt", ".md", ".json", ".xml"}:
            for problem in problems(path.read_text(encoding="utf-8"), path.suffix):
                log.warning("%s %s", path.relative_to(site), problem)


def problems(text: str, suffix: str) -> list[str]:
    """What is wrong with a file of the built site, one sentence each."""
    found = []
    if suffix == ".html" and (LOADED.search(text) or STYLES.search(text)):
        found.append("loads something from another server")
    if suffix == ".css" and FETCHED.search(text):
        found.append("asks another server for a font or an image")
    if str(ROOT) in text or str(Path.home()) + "/" in text:
        found.append("holds a path of this machine")
    return found
