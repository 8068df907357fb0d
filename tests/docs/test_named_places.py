"""Places the documents name as ``package/file.py:name`` exist below ``src/phisight`` or the clone, name included."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "phisight"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PLACE = re.compile(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.py)(?::([A-Za-z_][\w.]*))?`")
QUESTIONS = (
    "Where does an image become crops?",
    "Where is the label mask made?",
    "Where is the training step?",
    "Where is the certificate decided?",
    "Where is an address refused?",
    "Where is an old name translated?",
)


def missing(file: str, name: str, source: Path = SOURCE) -> str | None:
    """What is not there of a named place; None where all of it is. A file may also lie below the clone."""
    path = source / file if (source / file).is_file() else ROOT / file
    if not path.is_file():
        return f"no file {file}"
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for part in filter(None, name.split(".")):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [node for node in body if isinstance(node, kinds) and node.name == part]
        if not found:
            return f"no {part} in {file}"
        body = found[0].body
    return None


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_named_places_exist(page: Path) -> None:
    places = PLACE.findall(page.read_text(encoding="utf-8"))
    assert not [reason for file, name in places if (reason := missing(file, name))]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_architecture_answers_with_a_file_and_a_function(question: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    answers = [line for line in page.splitlines() if line.startswith(f"| {question} |")]
    assert len(answers) == 1
    file, name = PLACE.findall(answers[0])[0]
    assert name
    assert missing(file, name) is None


def promises() -> dict[str, str]:
    """Every promise about what strangers wrote, by its first words: the bullets of one page, the rows of the other."""
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## What is promised")[1].split("\n## ")[0]
    bullets = [" ".join(text.split()) for text in security.split("\n- ")[1:]]
    table = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").split("| promise | test |")[1].split("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return {one.strip("| ")[:40]: one for one in [*bullets, *rows]}


@pytest.mark.parametrize("promise", promises().values(), ids=promises())
def test_every_promise_names_a_test_that_is_there(promise: str) -> None:
    named = [file for file, _ in PLACE.findall(promise) if file.startswith("tests/")]
    assert named
    for file in named:
        assert missing(file, "") is None
        assert re.search(r"^ *(?:async )?def test_", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), file


def test_what_is_not_there_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class One:\n    def two(self): ...\n", encoding="utf-8")
    assert missing("a.py", "One.two", tmp_path) is None
    assert missing("a.py", "One.three", tmp_path) == "no three in a.py"
    assert missing("b.py", "", tmp_path) == "no file b.py"
