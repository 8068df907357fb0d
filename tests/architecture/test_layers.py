"""A package imports lower rows and itself, never a neighbour on its row; modules import each other without a cycle."""

import graphlib

import pytest

from tests.helpers.imports import Import, imports_by_module, imports_of

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
    "workflows": 5,
    "cli": 6,  # over the workflows it calls, never the other way
}
FRONT_DOOR = {"__init__", "__main__", "registration"}  # phisight itself: may reach for any part, imports none at once


def part_of(module: str) -> str:
    """The package below phisight that a dotted name lies in; '__init__' for phisight itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def offences(module: str, imports: list[Import]) -> list[str]:
    """The imports of a module that its row does not allow, as sentences."""
    own = part_of(module)
    if own in FRONT_DOOR:
        return []
    found = []
    for imported in imports:
        other = part_of(imported.module)
        if not imported.module.startswith("phisight.") or other not in ROWS:  # __version__ is phisight's own
            continue
        if other != own and ROWS[other] >= ROWS[own]:
            found.append(
                f"{module}:{imported.line} (row {ROWS[own]}) imports {imported.module} (row {ROWS[other]}); "
                "pass what is needed in from workflows, or move it to a lower row"
            )
    return found


MODULES = imports_by_module()


def test_every_part_has_a_row() -> None:
    parts = {part_of(module) for module in MODULES} - FRONT_DOOR
    assert parts <= set(ROWS), f"give {sorted(parts - set(ROWS))} a row here and in docs/architecture.md"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    found = offences(module, MODULES[module])
    assert not found, "\n".join(found)


def test_modules_import_each_other_without_a_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for module, imports in MODULES.items():
        names = [i.module if i.module in MODULES else i.module.rpartition(".")[0] for i in imports if i.at_load]
        graph[module] = {name for name in names if name in MODULES and name != module}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail("modules import each other in a ring: " + " -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("phisight.core.task", "from phisight.data.dataset.folder import read"),
        ("phisight.core.task", "import phisight.model"),
        ("phisight.core.task", "from phisight import model"),
        ("phisight.core.task", "from ..train import trainer"),
        ("phisight.data.build.build_dataset", "from phisight.sample import catalogue"),
        ("phisight.train.loop", "def f():\n    from phisight.evaluate.generate_answers import evaluate"),
        ("phisight.report.page", "import importlib\nimportlib.import_module('phisight.evaluate')"),
        ("phisight.report.page", "if TYPE_CHECKING:\n    from phisight.train import trainer"),
        ("phisight.model.tiny", "import phisight.generate.predictor as p"),
        ("phisight.workflows.train", "from phisight.cli.console import console"),
    ],
)
def test_an_import_upwards_or_sideways_is_seen(module: str, text: str) -> None:
    assert len(offences(module, list(imports_of(text, module)))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("phisight.train.loop", "from phisight.model.tiny import preset\nfrom phisight.core import task"),
        ("phisight.train.loop", "from phisight.train.loss import answer_loss"),
        ("phisight.train.loop", "from . import loss\nfrom phisight import __version__"),
        ("phisight.cli.train", "def run():\n    from phisight.workflows import train"),
    ],
)
def test_an_import_downwards_or_at_home_is_fine(module: str, text: str) -> None:
    assert not offences(module, list(imports_of(text, module)))
