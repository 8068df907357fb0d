"""``.ci/audit.py`` tells an unreachable database from a check that failed; the package ships the files there are."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLEAN = {"dependencies": [{"name": "a", "version": "1", "vulns": []}]}
KNOWN = {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1"}]}]}
REFUSED = "requests.exceptions.ConnectionError: Max retries exceeded with url: /pypi"


@pytest.mark.parametrize(
    ("out", "err", "code", "expected", "said"),
    [
        (json.dumps(CLEAN), "", 0, 0, "0 in 1 packages"),
        (json.dumps(KNOWN), "Found 1 known vulnerability", 1, 1, "a 1: PYSEC-1"),
        ("", f"Traceback\n{REFUSED}", 1, 0, "cannot be reached"),
        ("", "usage: pip-audit\nerror: unrecognized arguments: --no-deps", 2, 2, "failed with code 2"),
        ("", "", 0, 2, "failed with code 0"),
        ("[]", "", 0, 2, "failed with code 0"),
        ('{"dependencies": [7]}', "", 0, 2, "failed with code 0"),
        ("", "ERROR:invalid requirement in constraints.txt", 1, 2, "invalid requirement"),
    ],
)
def test_what_pip_audit_answers_is_told_apart(
    tmp_path: Path, out: str, err: str, code: int, expected: int, said: str
) -> None:
    tool = tmp_path / "pip-audit"
    lines = ["import sys", f"sys.stdout.write({out!r})", f"sys.stderr.write({err!r})", f"sys.exit({code})"]
    tool.write_text("\n".join([f"#!{sys.executable}", *lines, ""]))
    tool.chmod(0o755)
    command = [sys.executable, str(ROOT / ".ci/audit.py"), str(tool), "constraints.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    assert said in done.stdout


def test_the_files_that_are_shipped_are_those_that_exist() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["setuptools"]["package-data"]
    patterns = [pattern for several in shipped.values() for pattern in several]
    files = [one for one in (ROOT / "src/phisight").rglob("*") if one.is_file() and one.suffix not in (".py", ".pyc")]
    assert not [one for one in patterns if not any(file.match(one) for file in files)]
    assert not [file.name for file in files if not any(file.match(one) for one in patterns)]
