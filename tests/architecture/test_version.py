"""The version stands in one place, and the changelog's first entry is about it."""

import re
import tomllib
from pathlib import Path

import phisight

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_that_of_the_package() -> None:
    assert "version" not in PROJECT["project"]
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "phisight.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", phisight.__version__)


def test_the_changelog_begins_with_it() -> None:
    entries = re.findall(r"^## (\S+)(?: \((.+)\))?$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    version, when = entries[0]
    assert version == phisight.__version__
    assert when == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", when)
