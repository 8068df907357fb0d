"""The command line, as a user meets it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import ROOT, Command

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here is slow and starts processes."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def phisight() -> Command:
    """Runs ``phisight`` in a process of its own, offline; ``fails=True`` expects one line of error."""

    def run(*arguments: object, fails: bool = False, timeout: float = 900) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
        command = [sys.executable, "-m", "phisight", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
        if fails:
            assert done.returncode == 1, done.stdout + done.stderr
            assert "Traceback" not in done.stderr
            assert done.stderr.strip().splitlines()[-1].startswith("error:"), done.stderr
        else:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run
