"""core, data, sample, report and every ``--help`` start without torch."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

LOAD_PACKAGE = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""

ASK_EVERY_COMMAND = """
import sys, typer
from phisight.cli import app

def ask(command, words):
    try:
        command.main([*words, "--help"], prog_name="phisight", standalone_mode=False)
    except SystemExit:
        pass
    for name, child in getattr(command, "commands", {}).items():
        ask(child, [])

ask(typer.main.get_command(app), [])
"""

REPORT = (
    "\nheavy = sorted({'torch', 'transformers'} & set(sys.modules))\nsys.exit(f'imported {heavy}' if heavy else 0)\n"
)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter; it fails when torch was imported on the way."""
    command = [sys.executable, "-W", "error", "-c", script + REPORT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("package", ["core", "data", "sample", "report"])
def test_package_starts_without_torch(package: str) -> None:
    result = run(LOAD_PACKAGE, f"phisight.{package}")
    assert result.returncode == 0, result.stderr


def test_every_help_starts_without_torch() -> None:
    result = run(ASK_EVERY_COMMAND)
    assert result.returncode == 0, result.stderr
    assert "Usage: phisight" in result.stdout


def test_the_library_starts_without_torch() -> None:
    result = run("import sys, phisight")
    assert result.returncode == 0, result.stderr


def test_torch_is_seen_when_it_is_imported() -> None:
    result = run("import sys, types\nsys.modules['torch'] = types.ModuleType('torch')")
    assert "imported ['torch']" in result.stderr
