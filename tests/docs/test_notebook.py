"""The example notebook runs from its first cell to its last, in a fresh folder and a fresh kernel, on a few rows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "from_csv_to_answers.ipynb"


def cells() -> list[dict[str, Any]]:
    return list(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"])


def test_it_is_stored_without_what_it_printed() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_it_installs_in_one_line_and_ends_with_what_to_do_when_it_goes_wrong() -> None:
    lines = [line for cell in cells() for line in "".join(cell["source"]).splitlines()]
    assert sum("%pip install" in line and not line.startswith(("`", "One", "(")) for line in lines) == 1
    assert "".join(cells()[-1]["source"]).startswith("## When it goes wrong")


@pytest.mark.process
@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    pytest.importorskip("nbmake", reason="nbmake is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    shutil.copy(NOTEBOOK, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    environment = {
        **os.environ,
        "NOTEBOOK_ROWS": "60",
        "NOTEBOOK_STEPS": "4",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbmake", "--nbmake-timeout=600", "--overwrite", NOTEBOOK.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    outputs = (tmp_path / NOTEBOOK.name).read_text(encoding="utf-8")
    assert "<table>" in outputs, "the last cell shows images with answers"
    assert (tmp_path / "run" / "report.html").is_file()
