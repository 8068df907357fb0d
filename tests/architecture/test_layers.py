"""A package imports lower rows and itself, never a neighbour on its row; modules import each other without a cycle."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "phisight"

ROWS = {
    "core": 0,
    "data": 1,
    "sample": 1,
    "track": 1,
    "model": 2,
    "generate": 3,
    "train": 4,
    "evaluate": 4,
    "report": 4,
    "serve": 4,
    "pipelines": 5,
    "cli": 6,  # over the pipelines it calls, never the other way
}
FRONT_DOOR = {"__init__", "__main__"}  # phisight itself: may reach for any part, whoever imports it gets none


class Import(NamedTuple):
    """One imported name: the dotted module, its line, and whether it runs when the importing module is loaded."""

    module: str
    line: int
    at_load: bool


def imports_of(text: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import of phisight in a source text: plain, from, relative, in functions, and import_module("...")."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    tree = ast.parse(text)
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        for name in _imported(node, package):
            if name.split(".")[0] == "phisight":
                yield Import(name, getattr(node, "lineno", 0), id(node) not in deferred)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _imported(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        stem = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*stem, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "import_module"}:
        return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []


def part_of(module: str) -> str:
    """The package below phisight that a dotted name lies in; '__init__' for phisight itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def offences(text: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of a module that its row does not allow, as sentences."""
    own = part_of(module)
    if own in FRONT_DOOR:
        return []
    found = []
    for imported in imports_of(text, module, is_package):
        other = part_of(imported.module)
        if other not in ROWS:  # a name of phisight itself, such as __version__
            continue
        if other != own and ROWS[other] >= ROWS[own]:
            found.append(
                f"{module}:{imported.line} (row {ROWS[own]}) imports {imported.module} (row {ROWS[other]}); "
                "pass what is needed in from pipelines, or move it to a lower row"
            )
    return found


def sources() -> dict[str, Path]:
    """Dotted name -> file, for every module of phisight."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["phisight", *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)] = path
    return found


def test_every_part_has_a_row() -> None:
    parts = {part_of(module) for module in sources()} - FRONT_DOOR
    assert parts <= set(ROWS), f"give {sorted(parts - set(ROWS))} a row here and in docs/architecture.md"


@pytest.mark.parametrize(("module", "path"), sources().items(), ids=sources())
def test_imports_go_downwards(module: str, path: Path) -> None:
    found = offences(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
    assert not found, "\n".join(found)


def test_modules_import_each_other_without_a_cycle() -> None:
    modules = sources()
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = set()
        for imported in imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"):
            name = imported.module if imported.module in modules else imported.module.rpartition(".")[0]
            if imported.at_load and name in modules and name != module:
                graph[module].add(name)
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail("modules import each other in a ring: " + " -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("phisight.core.task", "from phisight.data.folder import read"),
        ("phisight.core.task", "import phisight.model"),
        ("phisight.core.task", "from phisight import model"),
        ("phisight.core.task", "from ..train import trainer"),
        ("phisight.data.build", "from phisight.sample import catalogue"),
        ("phisight.train.trainer", "def f():\n    from phisight.evaluate.runner import evaluate"),
        ("phisight.report.page", "import importlib\nimportlib.import_module('phisight.evaluate')"),
        ("phisight.report.page", "if TYPE_CHECKING:\n    from phisight.serve import app"),
        ("phisight.model.tiny", "import phisight.generate.predictor as p"),
        ("phisight.pipelines.train", "from phisight.cli.console import console"),
    ],
)
def test_an_import_upwards_or_sideways_is_seen(module: str, text: str) -> None:
    assert len(offences(text, module)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("phisight.train.trainer", "from phisight.model.tiny import preset\nfrom phisight.core import task"),
        ("phisight.train.trainer", "from phisight.train.loss import answer_loss"),
        ("phisight.train.trainer", "from . import loss\nfrom phisight import __version__"),
        ("phisight.cli.train", "def run():\n    from phisight.pipelines import train"),
    ],
)
def test_an_import_downwards_or_at_home_is_fine(module: str, text: str) -> None:
    assert not offences(text, module)
