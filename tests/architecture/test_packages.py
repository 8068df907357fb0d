"""The house is easy to walk: packages of a few modules, a name for one thing, helpers that are helpers."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "phisight"
FEWEST, MOST = 2, 12
# Packages of more modules: how many at most, and why.
LARGER = {
    "cli": (14, "one file a group of commands, and the screen"),
    "workflows": (19, "one file a command, and what several commands do alike"),
}
# Basenames that stand for two things, each with its reason.
SAME_NAMES: dict[str, str] = {}


def modules_by_package() -> dict[str, list[str]]:
    """Package folder relative to ``src/phisight`` ("." for phisight itself) -> names of its modules."""
    return {
        path.parent.relative_to(SOURCE).as_posix(): sorted(
            module.stem for module in path.parent.glob("*.py") if module.stem != "__init__"
        )
        for path in sorted(SOURCE.rglob("__init__.py"))
    }


PACKAGES = modules_by_package()


def parts(package: str) -> int:
    """Modules and sub-packages of a package."""
    nested = [name for name in PACKAGES if name not in {package, "."} and (Path(name).parent.as_posix() == package)]
    return len(PACKAGES[package]) + len(nested)


def test_packages_hold_two_to_twelve_modules() -> None:
    """A package of packages may have none of its own."""
    for package, modules in PACKAGES.items():
        count = len(modules)
        most = LARGER[package][0] if package in LARGER else MOST
        assert parts(package) >= FEWEST, f"{package} holds {count} module: {modules}"
        assert count <= most, f"{package} holds {count} modules, {most} at most: {modules}"
        assert package not in LARGER or count > MOST, f"{package} holds {count} modules: take it off the list"


def repeated(names: list[str]) -> dict[str, int]:
    """Names that occur more than once, and how often."""
    return {name: count for name, count in Counter(names).items() if count > 1}


def test_a_basename_stands_for_one_thing() -> None:
    """A command's two halves, ``cli/NAME.py`` and ``workflows/NAME.py``, are one thing."""
    pairs = set(PACKAGES["cli"]) & set(PACKAGES["workflows"])
    names = [name for package, names in PACKAGES.items() for name in names if package != "cli" or name not in pairs]
    packages = [Path(package).name for package in PACKAGES if package != "."]
    assert set(repeated(names)) | set(repeated(packages)) == set(SAME_NAMES)


def test_a_repeated_name_is_seen() -> None:
    assert repeated(["loop", "plan", "loop"]) == {"loop": 2}


TESTS = sorted((ROOT / "tests").rglob("*.py"))


def test_every_test_file_has_its_own_name() -> None:
    assert not repeated([path.name for path in TESTS if path.name != "conftest.py"])


def borrowed(text: str, folder: str) -> list[str]:
    """What a test file imports from the tests besides helpers; a module of its own folder that is no test is fine."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            own = (
                name.startswith(f"tests.{folder}.") and not {"conftest"} & set(name.split(".")) and ".test_" not in name
            )
            if name.startswith("tests.") and not name.startswith("tests.helpers.") and not own:
                found.append(f"line {node.lineno}: {name}")
    return found


def test_test_files_share_helpers_only() -> None:
    found = {}
    for path in TESTS:
        folder = ".".join(path.parent.relative_to(ROOT / "tests").parts)
        found[path.relative_to(ROOT).as_posix()] = borrowed(path.read_text(encoding="utf-8"), folder)
    found = {name: lines for name, lines in found.items() if lines}
    assert not found, f"move what is shared to tests/helpers: {found}"


@pytest.mark.parametrize(
    "line",
    [
        "from tests.unit.train.test_fit import run",
        "from tests.golden import test_golden",
        "from tests.golden.conftest import case",
        "import tests.parity.table",
        "def late():\n    from tests.unit.data import conftest",
    ],
)
def test_a_borrowed_test_is_seen(line: str) -> None:
    assert borrowed(line, "golden")


@pytest.mark.parametrize(
    "line", ["from tests.helpers.images import encoded", "from tests.golden import record", "import pytest"]
)
def test_a_helper_is_fine(line: str) -> None:
    assert not borrowed(line, "golden")
