"""One word for one thing, and the field's word: what the glossary replaced does not come back.

Words and phrases that no sentence needs are refused everywhere, in code, messages, documents and recipes. Other words
that the project once used in a sense of its own are refused in identifiers and file names of the program only, since
prose may need them.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each has a bracket that matches a letter, so that this file, which is read, too, holds none of them.
EVERYWHERE = re.compile(
    "|".join(
        [
            r"p[i]cture",
            r"(optim|quant|normal|token|final|general)[i]s(?=e|ing|ation)",
            r"l[a]belled(?!by)",  # an attribute of HTML
            r"lic[e]nce",
            r"\bat r[e]st\b",
            r"\bwhat (m[o]ves|r[e]sts)\b",
            r"\bways? to l[e]arn numbers",
            r"\bimage sl[o]ts?\b",
            r"\bh[e]als?\b",
            r"\bgo(es)? on with `*--r[e]sume",
            r"\bnone: [a]ll\b",
            r"hangs[ _]n[o]body",
            r"passed over with a w[o]rd",
            r"longest un[u]sed",
            r"example that does not c[o]unt",
        ]
    ),
    re.IGNORECASE,
)
# Files that name old words because they translate them or record them.
OLD_NAMES_ARE_DATA = {
    "src/phisight/core/migrations.py": "the table of old names",
    "pyproject.toml": "the extra's old name stays as an alias",
    "CHANGELOG.md": "says what the extra was called",
}
OLD_FOLDERS = "tests/golden/f796ce0/"  # written by an earlier version, as they were

# Part of an identifier or file name -> what to say instead. Parts are the words between underscores or capitals.
REFUSED_PARTS = {
    "ways": "strategies, methods",
    "moves": "is trainable",
    "rests": "is frozen, is offloaded",
    "resting": "frozen, offloaded",
    "slot": "placeholder",
    "slots": "placeholders",
    "places": "positions, indices",
    "outcome": "result",
    "outcomes": "results",
    "refusal": "rejection",
    "refusals": "rejections",
    "hea" + "ls": "transient",
    "obtain": "download",
    "watching": "callback",
    "watcher": "callback",
    "told": "message, log",
    "say": "message",
    "says": "message",
    "hear": "callback",
    "heard": "received",
    "colour": "color",
    "colours": "colors",
    "grey": "gray",
}
REFUSED_FILES = REFUSED_PARTS | {
    "words": "formatting",
    "bars": "progress_bars, thresholds",
    "take": "decode",
    "finish": "finalize",
    "before": "base_model",
}
PYTHONS_OWN = {"__slots__", "slots"}  # dataclass(slots=True)


def text_files() -> Iterator[Path]:
    """Every file a person wrote, for the words refused everywhere."""
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.name not in {".git", ".coverage"})
    for top in ("src", "tests", "benchmarks", "docs", "recipes", "examples", ".ci"):
        for path in sorted((ROOT / top).rglob("*")):
            generated = "__pycache__" in path.parts or any(part.endswith(".egg-info") for part in path.parts)
            if path.is_file() and not generated:
                yield path


def refused_everywhere(text: str) -> list[str]:
    """Lines with a word that is refused everywhere, as 'line: text'."""
    return [
        f"{number}: {line.strip()[:100]}" for number, line in enumerate(text.splitlines(), 1) if EVERYWHERE.search(line)
    ]


def test_refused_words_are_nowhere() -> None:
    found = []
    for path in text_files():
        name = path.relative_to(ROOT).as_posix()
        if EVERYWHERE.search(name):
            found.append(name)
        if name in OLD_NAMES_ARE_DATA or name.startswith(OLD_FOLDERS):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{line}" for line in refused_everywhere(text)]
    assert not found, f"{len(found)} lines:\n" + "\n".join(found)


def test_files_that_may_name_old_words_do() -> None:
    idle = [name for name in OLD_NAMES_ARE_DATA if not refused_everywhere((ROOT / name).read_text(encoding="utf-8"))]
    assert not idle, f"take these off the list: {idle}"


def identifiers(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of what a source text defines or sets: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def parts(name: str) -> set[str]:
    """The words of an identifier: ``_ImageSlots`` and ``image_slots`` are image and slots."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def refused_identifiers(text: str) -> list[str]:
    """Identifiers of a source text with a refused part, as 'line: name (instead)'."""
    found = []
    for line, name in identifiers(text):
        refused = sorted(parts(name) & set(REFUSED_PARTS)) if name not in PYTHONS_OWN else []
        if refused:
            instead = "; ".join(REFUSED_PARTS[part] for part in refused)
            found.append(f"{line}: {name} ({instead})")
    return found


SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_identifiers_are_the_field_s() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): refused_identifiers(path.read_text(encoding="utf-8")) for path in SOURCES
    }
    assert not {name: lines for name, lines in found.items() if lines}
    assert not [name for name in found if parts(Path(name).stem) & set(REFUSED_FILES)]


@pytest.mark.parametrize(
    "text",
    [
        "a pic" + "ture",
        "PIC" + "TURES",
        "the optimis" + "er",
        "quantis" + "ation",
        "weights at " + "rest",
        "Quantis" + "ing",
        "to normalis" + "e",
        "label" + "led rows",
        "a lic" + "ence",
        "what mo" + "ves and what is frozen",
        "a way to l" + "earn numbers",
        "image sl" + "ots",
        "what can he" + "al",
        "go on with `--re" + "sume`",
        "rows (none: a" + "ll)",
        "it hangs no" + "body",
        "passed over with a wo" + "rd",
        "the longest unu" + "sed",
        "an example that does not cou" + "nt",
    ],
)
def test_a_refused_word_is_seen(text: str) -> None:
    assert refused_everywhere(f"fine\n{text}\n") == [f"2: {text}"]


@pytest.mark.parametrize(
    "text",
    [
        "an image",
        "optimistic",
        "at the rest of them",
        "quantized",
        "the rest",
        "aria-label" + "ledby",
        "health",
        "a slot",
        "a normal issue",
        "finalist",
        "licensed",
    ],
)
def test_other_words_are_left_alone(text: str) -> None:
    assert not refused_everywhere(text)


@pytest.mark.parametrize(
    "text",
    [
        "def store_what_rests(): ...",
        "class ImageSlotError(Exception): ...",
        "def f(places): ...",
        "outcome = 1",
        "self.hea" + "ls = True",
        "for refusal in rows: ...",
        "lambda colour: colour",
    ],
)
def test_a_refused_identifier_is_seen(text: str) -> None:
    assert refused_identifiers(text)


@pytest.mark.parametrize(
    "text", ["__slots__ = ()", "slots = 3", "keep = color", "def placeholders(): ...", "kept = 1", "x = 'slots'"]
)
def test_other_identifiers_are_left_alone(text: str) -> None:
    assert not refused_identifiers(text)
