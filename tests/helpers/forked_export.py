"""What an export starts as a fresh process, asked in a process that is forked with everything imported, or in this one.

An export asks its run and what it wrote each in a process of its own, and most of that time goes into imports.
``forked`` keeps the processes: nothing of the tests is in their memory, and models come from disk. ``in_this_process``
is for tests of what is said, which read a hundred damaged files.
"""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phisight.core.errors import CheckpointError, PhisightError
from phisight.export.compare import Observation
from phisight.workflows.export import _observe
from tests.helpers.forked import start

Done = subprocess.CompletedProcess[str]


def forked(command: Sequence[str], *, input: str, **_: Any) -> Done:
    """In place of ``subprocess.run`` for ``python -m MODULE``."""
    python, option, module = command
    assert (python, option) == (sys.executable, "-m")
    with tempfile.TemporaryDirectory() as scratch:
        errors = Path(scratch) / "stderr"
        process = start(_as_main, module, input, errors, dict(os.environ))
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(command, process.exitcode, "", errors.read_text(encoding="utf-8"))


def _as_main(module: str, asked: str, errors: Path, environment: Mapping[str, str]) -> None:
    """Run a module as ``python -m`` does, with its standard input; what it writes to stderr goes into a file."""
    os.environ.clear()
    os.environ.update(environment)
    with errors.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
        sys.stdin = io.StringIO(asked)
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def in_this_process(questions: Sequence[Mapping[str, Any]], module: str, folder: Path) -> list[Observation]:
    """In place of ``observed``: the same questions without a process."""
    assert module == "phisight.workflows.export"
    answers = []
    for question in questions:
        try:
            _observe({**question, "out": str(folder / "observed")})
        except PhisightError as error:
            raise CheckpointError(f"{question['subject']} cannot be loaded and asked: {str(error)[:400]}") from error
        answers.append(Observation.read(folder / "observed"))
    return answers
