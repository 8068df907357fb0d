"""The blocks of docs/serving.md marked ``serve`` run, one after the other, against a server."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.helpers import served

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python) serve\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served.running() as (url, _):
        yield url


def run(command: list[str], folder: Path) -> str:
    (folder / "photo.jpg").write_bytes(served.image_bytes(kind="JPEG"))
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_both_kinds() -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "python"]


CURL = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]


@pytest.mark.parametrize("line", CURL)
def test_curl(line: str, address: str, tmp_path: Path) -> None:
    words = shlex.split(line.replace(ADDRESS, address))
    found = run([words[0], "--fail-with-body", *words[1:]], tmp_path)
    assert found
    if "extract" in line:
        assert '"fields":{' in found


def test_python(address: str, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the official client is not installed")
    (code,) = (text for language, text in BLOCKS if language == "python")
    code = code.replace(ADDRESS, address)
    found = run([sys.executable, "-W", "ignore", "-c", code], tmp_path)
    assert "Name: " in found
    assert "'price':" in found
