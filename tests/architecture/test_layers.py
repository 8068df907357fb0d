"""A package imports lower layers and itself, never a neighbour on its layer; nothing imports in a ring.

Sub-packages count: neither modules, nor packages, nor what lies side by side in a package import in a ring.
"""

import graphlib
from collections.abc import Iterable

import pytest

from tests.helpers.imports import Import, imports_by_module, imports_of, sources

LAYERS = {
    "core": 0,
    "data": 1,
    "sample": 1,
    "track": 1,
    "model": 2,
    "generate": 3,
    "train": 4,
    "evaluate": 4,
    "report": 4,
    "export": 4,
    "extraction": 4,
    "serve": 4,
    "workflows": 5,
    "cli": 6,  # over the workflows it calls, never the other way
}
# phisight itself: may reach for any part, imports none at once
FRONT_DOOR = {"__init__", "__main__", "api", "registration"}


def package_of(module: str) -> str:
    """The package below phisight that a dotted name lies in; '__init__' for phisight itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def offences(module: str, imports: list[Import]) -> list[str]:
    """The imports of a module that its layer does not allow, as sentences."""
    own = package_of(module)
    if own in FRONT_DOOR:
        return []
    found = []
    for imported in imports:
        other = package_of(imported.module)
        if not imported.module.startswith("phisight.") or other not in LAYERS:  # __version__ is phisight's own
            continue
        if other != own and LAYERS[other] >= LAYERS[own]:
            found.append(
                f"{module}:{imported.line} (layer {LAYERS[own]}) imports {imported.module} (layer {LAYERS[other]}); "
                "pass what is needed in from workflows, or move it to a lower layer"
            )
    return found


MODULES = imports_by_module()


def test_every_package_has_a_layer() -> None:
    parts = {package_of(module) for module in MODULES} - FRONT_DOOR
    assert parts <= set(LAYERS), f"give {sorted(parts - set(LAYERS))} a layer here and in docs/architecture.md"


def test_imports_go_downwards() -> None:
    found = [offence for module, imports in MODULES.items() for offence in offences(module, imports)]
    assert not found, "\n".join(found)


def ring(edges: Iterable[tuple[str, str]]) -> list[str]:
    """The names of a ring among directed edges, first and last the same; empty where there is none."""
    graph: dict[str, set[str]] = {}
    for start, end in edges:
        if start != end:
            graph.setdefault(start, set()).add(end)
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


def known(name: str) -> str | None:
    """The module that an imported name is, or is defined in; None where it is not phisight's."""
    stem = name.rpartition(".")[0]
    return name if name in MODULES else stem if stem in MODULES else None


EDGES = [
    (module, target, imported.at_load)
    for module, imports in MODULES.items()
    for imported in imports
    if package_of(module) not in FRONT_DOOR and (target := known(imported.module)) and target != "phisight.__init__"
]
PACKAGES = {module for module, path in sources().items() if path.name == "__init__.py"} - {"phisight.__init__"}


def home(module: str) -> str:
    """The package whose folder holds the module's file; a package's own ``__init__`` lies in it."""
    return module if module in PACKAGES else module.rpartition(".")[0]


def below(package: str, module: str) -> str:
    """The part of a package, one name deep, that a module below it belongs to."""
    return module.removeprefix(f"{package}.").partition(".")[0]


def test_modules_import_each_other_without_a_ring() -> None:
    assert not ring((start, end) for start, end, at_load in EDGES if at_load)


def test_packages_import_each_other_without_a_ring() -> None:
    """The modules beside a sub-package either use it or are used by it; imports inside functions count."""
    assert not ring((home(start), home(end)) for start, end, _ in EDGES)


def test_parts_of_a_package_import_each_other_without_a_ring() -> None:
    """Of what lies side by side in a package, modules and sub-packages with all below them alike."""
    for package in sorted(PACKAGES):
        inside = [edge for edge in EDGES if all(name.startswith(f"{package}.") for name in edge[:2])]
        found = ring((below(package, start), below(package, end)) for start, end, at_load in inside if at_load)
        assert not found, f"in {package}: {found}"


def test_a_ring_is_seen() -> None:
    assert ring([("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")])[1:] != []
    assert not ring([("a", "b"), ("b", "c"), ("a", "c"), ("c", "c")])


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
        ("phisight.workflows.train", "from phisight.cli.screen import console"),
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
