"""Commands and Python in the documents fit the program; blocks marked ``run`` are executed.

Every fenced block of sh is read: a ``phisight`` line must parse against the real command line, a ``make`` line must
name a target. Which blocks of a page are executed, and how, is said in ``tests/helpers/documented.py``.
"""

import ast
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import typer

from phisight.cli import app
from phisight.core.recipe import load_recipe, split_more_steps
from tests.helpers.documented import Block, blocks_of, command_lines, is_executed, run_blocks

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def complaint(words: list[str], program: typer.Typer = app) -> str | None:
    """Why the program would not take this command line, or None. Nothing is run; a file that is not there is fine."""
    command: Any = typer.main.get_command(program)
    context, name, rest = None, words[0], words[1:]
    while True:
        try:
            context = command.make_context(name, list(rest), parent=context)
        except typer.Exit:  # --help, --version
            return None
        except Exception as error:
            message = str(getattr(error, "message", "")) or f"{type(error).__name__} {error}"
            absent = re.search(r"(file|directory|path) '(.+)' does not exist", message, re.IGNORECASE)
            if not absent or absent[2] not in rest:
                return f"{' '.join(words)}: {message}"
            there = __file__ if absent[1].lower() == "file" else str(ROOT)
            rest = [there if word == absent[2] else word for word in rest]
            continue
        if not hasattr(command, "commands"):
            return None
        name, *rest = [*context._protected_args, *context.args] or [""]
        if name not in command.commands:
            return f"{' '.join(words)}: no command {name!r}; there are {', '.join(command.commands)}"
        command = command.commands[name]


BLOCKS = [b for page in PAGES for b in blocks_of(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))]
SHELL = [block for block in BLOCKS if block.language in {"sh", "bash", "console", "shell"}]
PYTHON = [block for block in BLOCKS if block.language == "python"]


@pytest.mark.parametrize("block", SHELL, ids=[block.where for block in SHELL])
def test_commands_fit_the_command_line(block: Block) -> None:
    complaints = []
    for words in command_lines(block):
        program = Path(words[0]).name
        if program == "phisight":
            complaints.append(complaint(words))
        elif program == "make":
            complaints += [f"no target {t!r} in the Makefile" for t in words[1:] if "=" not in t and t not in TARGETS]
    assert not [text for text in complaints if text]


TRAINING = [
    words for block in SHELL for words in command_lines(block) if words[0] == "phisight" and "train" in words[:3]
]


@pytest.mark.parametrize("words", TRAINING, ids=[" ".join(words) for words in TRAINING])
def test_recipes_and_settings_exist(words: list[str]) -> None:
    settings = [word for option, word in pairwise(words) if option == "--set"]
    recipe = words[words.index("train") + 1]
    load_recipe(ROOT / recipe, split_more_steps(settings)[0] if "--resume" in words else settings)


@pytest.mark.parametrize("block", PYTHON, ids=[block.where for block in PYTHON])
def test_python_parses(block: Block) -> None:
    ast.parse(block.text)


RUN = [block for block in BLOCKS if is_executed(block)]
RUN_PAGES = sorted({block.where.split(":")[0] for block in RUN})


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES)
def test_marked_blocks_run(page: str, tmp_path: Path) -> None:
    run_blocks([block for block in RUN if block.where.split(":")[0] == page], tmp_path)


def test_the_hand_over_is_among_the_pages_that_run() -> None:
    """From the demo's run to an export, a table and typed fields in Python."""
    assert "docs/export.md" in RUN_PAGES
    lines = [words[1] for block in RUN if block.language == "sh" for words in command_lines(block)]
    assert {"demo", "export", "predict"} <= set(lines)
    assert any("phisight.load" in block.text for block in RUN if block.language == "python")


@pytest.mark.process
def test_a_block_that_fails_is_seen(tmp_path: Path) -> None:
    (shell,) = blocks_of("```sh run\nphisight report nowhere\n```\n", "page.md")
    with pytest.raises(AssertionError, match=r"page\.md:1: phisight report nowhere"):
        run_blocks([shell], tmp_path)
    (python,) = blocks_of("```python run\nraise SystemExit(3)\n```\n", "page.md")
    with pytest.raises(AssertionError, match=r"page\.md:1"):
        run_blocks([python], tmp_path)


def test_the_readme_s_two_commands_are_there() -> None:
    readme = [words for block in SHELL if block.where.startswith("README.md") for words in command_lines(block)]
    assert ["make", "demo"] in readme
    assert ["make", "test"] in readme


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def small_program() -> typer.Typer:
    """A program of two levels with an argument, a choice and a number."""
    program, group = typer.Typer(), typer.Typer()

    @program.callback()
    def options(debug: bool = False) -> None:
        """Options of the program."""

    @group.command()
    def show(folder: Path, split: Literal["train", "test"] = "test", rows: int = 5) -> None:
        """Never run."""
        raise AssertionError("the command was run")

    @group.command()
    def build(source: Path = typer.Argument(exists=True), out: Path = typer.Option()) -> None:
        """Never run."""
        raise AssertionError("the command was run")

    program.add_typer(group, name="data")
    return program


@pytest.mark.parametrize(
    "line",
    [
        "phisight",
        "phisight --nosuch",
        "phisight nosuch",
        "phisight data",
        "phisight data nosuch",
        "phisight data show",
        "phisight data show a b",
        "phisight data show a --nosuch",
        "phisight data show a --split nosuch",
        "phisight data show a --rows many",
        "phisight data build a",
    ],
)
def test_a_wrong_command_is_seen(line: str) -> None:
    assert complaint(shlex.split(line), small_program())


@pytest.mark.parametrize(
    "line",
    [
        "phisight --help",
        "phisight data --help",
        "phisight --debug data show a",
        "phisight data show a --split train --rows 3",
        "phisight data build not-there --out b",
    ],
)
def test_a_right_command_is_left_alone(line: str) -> None:
    assert complaint(shlex.split(line), small_program()) is None
