"""What is imported is declared, what is declared is imported, explained, pinned and under a permissive license."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers.imports import Import, imports_by_module

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
DECISIONS = ROOT / "docs" / "decisions" / "0002-dependencies.md"

# Import name -> distribution where they differ.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "mlflow": "mlflow-skinny"}
# Declared, never imported by name: the reason.
WORKS_UNSEEN = {
    "s3fs": "fsspec imports it for s3:// addresses",
    "gcsfs": "fsspec imports it for gs:// addresses",
}
PARTS_OF_EXTRAS = ("phisight.serve.", "phisight.workflows.serve")
NOT_PERMISSIVE = re.compile(
    r"\bA?L?GPL|GNU|BUSL|Business Source|SSPL|Commons Clause|\bNC\b|Proprietary|EUPL", re.IGNORECASE
)


def normal(name: str) -> str:
    """A distribution's name in the one spelling of the packaging standard."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(lines: list[str]) -> set[str]:
    """Names of the distributions in a list of requirements; phisight's own extras are left out."""
    return {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines} - {"phisight"}


def own_extras(requirement: str) -> list[str]:
    """The extras of phisight that a requirement such as ``phisight[wandb,mlflow]`` asks for."""
    match = re.match(r"phisight\[([^\]]+)\]", requirement)
    return re.split(r"\s*,\s*", match[1]) if match else []


CORE = declared(PROJECT["dependencies"])
EXTRAS = {extra: declared(lines) for extra, lines in PROJECT["optional-dependencies"].items()}
IN_DEV = set().union(*(EXTRAS[e] for line in PROJECT["optional-dependencies"]["dev"] for e in own_extras(line)))
OPTIONAL = set().union(*(names for extra, names in EXTRAS.items() if extra != "dev"))


def distribution(imported: Import) -> str | None:
    """The distribution an import comes from; None for Python's own and for phisight."""
    top = imported.module.split(".")[0]
    return None if top in sys.stdlib_module_names | {"phisight"} else normal(DISTRIBUTIONS.get(top, top))


MODULES = imports_by_module()
IMPORTED = [(module, i, name) for module, imports in MODULES.items() for i in imports if (name := distribution(i))]


def test_what_is_imported_is_declared() -> None:
    missing = [f"{module}:{i.line} imports {name}" for module, i, name in IMPORTED if name not in CORE | OPTIONAL]
    assert not missing, "add to pyproject.toml, or do without:\n" + "\n".join(missing)


def of_extra(module: str) -> bool:
    """Whether a module is part of what an extra is for as a whole: its parts load each other."""
    return module.startswith(PARTS_OF_EXTRAS)


def test_extras_are_imported_when_asked_for() -> None:
    """A module that needs an extra to load is one that no other module loads with itself."""
    needs_extra = {module for module, i, name in IMPORTED if i.at_load and name in OPTIONAL - CORE}
    needs_extra |= {module for module in MODULES if of_extra(module)}
    early = [
        f"{module}:{i.line} imports {i.module}, which needs an extra"
        for module, imports in MODULES.items()
        for i in imports
        if i.at_load and not of_extra(module) and {i.module, i.module.rpartition(".")[0]} & needs_extra
    ]
    assert not early, "import these inside the function that needs them:\n" + "\n".join(early)


def test_what_is_declared_is_imported() -> None:
    unused = CORE - {name for _, _, name in IMPORTED} - set(WORKS_UNSEEN)
    assert not unused, f"declared in pyproject.toml, imported nowhere: {sorted(unused)}"
    assert set(WORKS_UNSEEN) <= CORE | OPTIONAL


def test_every_dependency_has_its_line_in_the_decisions() -> None:
    lines = [normal_line(line) for line in DECISIONS.read_text(encoding="utf-8").splitlines()]
    for name in sorted(CORE | OPTIONAL | EXTRAS["dev"]):
        assert any(re.match(rf"\| `{re.escape(name)}` \| .{{20,}}", line) for line in lines), (
            f"{DECISIONS.relative_to(ROOT)} has no line for {name}: | `{name}` | why it earns its place |"
        )


def normal_line(line: str) -> str:
    """A table row with the name in its first cell in the one spelling."""
    return re.sub(r"^\| `([^`]+)`", lambda match: f"| `{normal(match[1])}`", line)


def test_every_installed_dependency_is_pinned() -> None:
    pinned = {normal(line.split("==")[0]) for line in CONSTRAINTS if "==" in line}
    missing = (CORE | EXTRAS["dev"] | IN_DEV) - pinned
    assert not missing, f"{sorted(missing)} are not in constraints.txt; run make constraints"


def test_constraints_are_exact_and_hold_on_any_machine() -> None:
    lines = [line for line in CONSTRAINTS if line and not line.startswith("#")]
    assert lines
    loose = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)]
    assert not loose, f"not name==version: {loose}"


def needed(names: set[str]) -> set[str]:
    """Everything that comes with these distributions, as far as it is installed here."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        try:
            requires = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting |= declared([line for line in requires if "extra ==" not in line]) - found
    return found


def license(name: str) -> str:
    """What a distribution's metadata say about its license; only the first line of a full text."""
    metadata = importlib.metadata.metadata(name)
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    text = [*(metadata.get_all("License-Expression") or []), *(metadata.get_all("License") or [])]
    return "; ".join([line.strip().split("\n")[0] for line in text] + classifiers)


def test_what_comes_along_is_under_a_permissive_license() -> None:
    for name in sorted(needed(CORE | IN_DEV)):
        stated = license(name)
        assert stated, f"{name} states no license"
        assert not NOT_PERMISSIVE.search(stated), f"{name} is under {stated}"


@pytest.mark.parametrize(
    "text", ["GPL-3.0-only", "LGPLv2+", "BUSL-1.1", "GNU Affero", "License :: Other/Proprietary License"]
)
def test_a_license_that_is_not_permissive_is_seen(text: str) -> None:
    assert NOT_PERMISSIVE.search(text)
