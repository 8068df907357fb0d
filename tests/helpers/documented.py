"""Fenced blocks of the documents: found, written as files, executed.

Marks behind the language of a block say what is done with it, in the order of the page and in one folder, which holds
``recipes/`` at first:

    sh run          each command in a fresh process: phisight, or curl against the server that the page has started
    python run      a fresh process of Python
    LANGUAGE file=NAME    the text is written to NAME
    csv table=NAME  the rows of the table, a few times over, with an image of its own for each
    small           beside run: training takes a few steps, evaluation answers and samples draw a few rows, a demo is
                    drawn small
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.helpers.images import encoded, smooth_image

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"http://127\.0\.0\.1:8000")
COPIES = 8
TIME_LIMIT = 600
SMALL_TRAIN = {"train.steps": 4, "train.batch_size": 2, "train.evaluate_every": 4, "train.answer_rows": 2}
SMALL_SAMPLE = "60"
SMALL_DEMO = {**SMALL_TRAIN, "evaluate.rows": 6, "evaluate.constrained": "true"}
SMALL_EVALUATION = ["--rows", "4", "--base-model-rows", "2"]


class Block(NamedTuple):
    """A fenced block: language, what stands behind it, its text, and where it is."""

    language: str
    marks: str
    text: str
    where: str

    def named(self, mark: str) -> str | None:
        """The value of ``mark=value`` behind the language."""
        found = re.search(rf"\b{mark}=(\S+)", self.marks)
        return found[1] if found else None


def blocks_of(text: str, name: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [
        Block(match[1], match[2].strip(), match[3], f"{name}:{text.count(chr(10), 0, match.start()) + 1}")
        for match in FENCE.finditer(text)
    ]


def command_lines(block: Block) -> list[list[str]]:
    """The words of each command in a block of sh; prompts and comments dropped, continued lines joined."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line for line in words if line]


def write_table(text: str, path: Path, copies: int = COPIES) -> None:
    """The rows of a CSV text, several times over; the last column names an image, drawn beside the table."""
    lines = list(csv.DictReader(text.splitlines()))
    path.parent.mkdir(parents=True, exist_ok=True)
    key, *_, photo = lines[0]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        for copy in range(copies):
            for at, line in enumerate(lines):
                number = copy * len(lines) + at
                image = Path(line[photo]).with_stem(str(number))
                (path.parent / image).parent.mkdir(parents=True, exist_ok=True)
                (path.parent / image).write_bytes(encoded(smooth_image(number)))
                writer.writerow({**line, key: f"{line[key]}-{copy}", photo: image.as_posix()})


def shrunk(words: Sequence[str]) -> list[str]:
    """A command of phisight as ``small`` runs it."""
    if words[1] == "sample":
        return [SMALL_SAMPLE if before == "--rows" else word for before, word in pairwise(["", *words])]
    if words[1] == "evaluate":
        return [*words, *SMALL_EVALUATION]
    if words[1] == "demo":
        return [*words, "--quick", *(word for key, value in SMALL_DEMO.items() for word in ("--set", f"{key}={value}"))]
    if words[1] != "train":
        return list(words)
    longer = [re.sub(r"^train\.steps=\+\d+$", f"train.steps=+{SMALL_TRAIN['train.steps']}", word) for word in words]
    changes = {key: value for key, value in SMALL_TRAIN.items() if key != "train.steps" or longer == list(words)}
    return [*longer, *(word for key, value in changes.items() for word in ("--set", f"{key}={value}"))]


class PageRun:
    """The blocks of one page, executed in a folder; a server that a page starts runs until the end of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[str] | None = None
        self.address = ""
        self.output = ""
        """What the last command said."""
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        if not (folder / "recipes").exists():
            shutil.copytree(ROOT / "recipes", folder / "recipes")

    def __enter__(self) -> PageRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=60)

    def execute(self, block: Block) -> None:
        """Do what the marks say; AssertionError with what a command wrote where it fails."""
        name, table = block.named("file"), block.named("table")
        if table:
            write_table(block.text, self.folder / table)
        elif name:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._run([sys.executable, "-W", "ignore", "-c", ADDRESS.sub(self.address, block.text)], block.where)
        else:
            for words in command_lines(block):
                self._command(words, block)

    def _command(self, words: list[str], block: Block) -> None:
        program = Path(words[0]).name
        assert program in {"phisight", "curl"}, f"{block.where}: {program} is not run by this test"
        if program == "curl":
            self._run(
                [*words[:1], "--fail-with-body", *(ADDRESS.sub(self.address, one) for one in words[1:])], block.where
            )
        elif words[1] == "serve":
            self._serve(words, block.where)
        else:
            words = shrunk(words) if "small" in block.marks.split() else words
            self._run(
                [sys.executable, "-m", "phisight", *(ADDRESS.sub(self.address, one) for one in words[1:])], block.where
            )

    def _run(self, command: list[str], where: str) -> None:
        result = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT,
            env=self.environment,
        )
        assert result.returncode == 0, f"{where}: {' '.join(command[2:])}\n{result.stdout}\n{result.stderr}"
        self.output = result.stdout

    def _serve(self, words: list[str], where: str) -> None:
        """Start a server on a free port, and wait until it says where it listens."""
        command = [sys.executable, "-m", "phisight", *words[1:], "--port", "0"]
        with (self.folder / "server.log").open("w", encoding="utf-8") as log:
            self.server = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, text=True, env=self.environment
            )
        text = ""
        end = time.monotonic() + TIME_LIMIT
        while time.monotonic() < end and self.server.poll() is None:
            text = (self.folder / "server.log").read_text(encoding="utf-8")
            if found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", text):
                self.address = found[0]
                return
            time.sleep(0.2)
        raise AssertionError(f"{where}: {' '.join(words)} did not start\n{text}")


def is_executed(block: Block) -> bool:
    """Whether the test of the documents does something with a block."""
    return "run" in block.marks.split() or bool(block.named("file") or block.named("table"))


def run_blocks(blocks: Sequence[Block], folder: Path) -> None:
    """Execute the blocks of a page in a folder."""
    with PageRun(folder) as page:
        for block in blocks:
            page.execute(block)
