"""A prediction may be killed anywhere: the next one has every row once, and the same file at the end."""

import csv
import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SettingsError, StorageError
from phisight.core.task import Task
from phisight.extraction.answer import Answer
from phisight.extraction.answer_log import AnswerLog
from phisight.extraction.results import ResultFile

TASK = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})
NAMES = ["a\n,b.jpg", "日本.jpg", "a\n,b.jpg", "gone.jpg", "c.jpg"]
SAME = {"model": "runs/a", "source": "photos"}


def answer(row: int) -> Answer:
    if NAMES[row] == "gone.jpg":
        return Answer(error="image: there is no image\ngone.jpg")
    return Answer({"title": f"Ü {row}", "price": row / 3}, text=f"x {row}", confidence={"title": row / 5, "price": 1.0})


def predict(out: Path, asked: Callable[[int], None] = lambda _row: None, **options: Any) -> None:
    """A prediction whose answers end in another order than they were asked for."""
    with ResultFile(out, TASK, SAME, min_confidence=0.5, **options) as results:
        for row in (3, 0, 1, 4, 2):
            if not results.has(row, NAMES[row]):
                asked(row)
                results.add(row, NAMES[row], answer(row))
        results.finish()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> tuple[dict[str, bytes], bytes]:
    """The files of an undisturbed prediction, and its partial file at the last moment."""
    folder = tmp_path / "whole"
    partial: list[bytes] = []
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        unlink = Path.unlink

        def seen(path: Path, missing_ok: bool = False) -> None:
            if path.name.endswith(".partial.jsonl"):
                partial.append(path.read_bytes())
            unlink(path, missing_ok)

        patch.setattr(Path, "unlink", seen)
        predict(folder / "out.csv")
    assert set(files(folder)) == {"out.csv", "out.review.csv"}
    return files(folder), partial[0]


@pytest.mark.slow
def test_whatever_is_left_of_the_partial_file(whole: tuple[dict[str, bytes], bytes], tmp_path: Path) -> None:
    """Every beginning of the partial file is what some kill leaves; rows whose line is whole are not asked again."""
    expected, partial = whole
    for cut in range(len(partial) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "out.csv.partial.jsonl").write_bytes(partial[:cut])
        asked: list[int] = []
        predict(folder / "out.csv", asked.append)
        assert files(folder) == expected
        assert len(asked) == len(NAMES) - max(0, partial[:cut].count(b"\n") - 1) or cut == len(partial)


class KilledError(BaseException):
    """Stands for a kill: nothing catches it."""


def kills(patch: pytest.MonkeyPatch, at: int) -> Iterator[int]:
    """Calls that change files, counted; the one of this number does not come back, before or after its work."""
    count = 0
    for owner, name in ((Path, "replace"), (Path, "unlink"), (AnswerLog, "_append")):
        original = getattr(owner, name)

        def step(*arguments: Any, original: Any = original, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise KilledError
            found = original(*arguments, **options)
            count += 1
            if count == at:
                raise KilledError
            return found

        patch.setattr(owner, name, step)
    while True:
        yield count


@pytest.mark.parametrize("overwrite", [False, True])
def test_wherever_it_is_killed(
    overwrite: bool, whole: tuple[dict[str, bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the first change of a file, continued; killed at the second, continued; and so on to the end."""
    points = 0
    for at in range(1, 1000):
        folder = tmp_path / f"kill {at}"
        folder.mkdir()
        if overwrite:
            (folder / "out.csv").write_text("an earlier one")
        with monkeypatch.context() as patch:
            counted = kills(patch, at)
            next(counted)
            try:
                predict(folder / "out.csv", overwrite=overwrite)
            except KilledError:
                points += 1
            else:
                break
        if files(folder) != whole[0]:  # it was killed behind its last change otherwise
            predict(folder / "out.csv", overwrite=overwrite)
        assert files(folder) == whole[0], f"killed at change {at}"
    assert points >= 20


def test_answers_of_another_prediction_are_refused_by_name(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "out.csv", TASK, SAME) as results:
        results.add(1, "b.jpg", answer(1))
    for changed, words in (({"model": "runs/b"}, "model: runs/a, now runs/b"), ({"source": "x"}, "photos, now x")):
        with pytest.raises(SettingsError, match=words):
            ResultFile(tmp_path / "out.csv", TASK, {**SAME, **changed})
    with ResultFile(tmp_path / "out.csv", TASK, {**SAME, "model": "runs/b"}, overwrite=True) as results:
        assert len(results) == 0
    with ResultFile(tmp_path / "out.csv", TASK, {**SAME, "model": "runs/b"}) as results:
        assert not results.has(1, "b.jpg")


def test_a_source_that_changed_is_refused_by_row(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "out.csv", TASK, SAME) as results:
        results.add(1, "b.jpg", answer(1))
    with ResultFile(tmp_path / "out.csv", TASK, SAME) as results, pytest.raises(SettingsError, match="row 2 of the"):
        results.has(1, "new.jpg")


CHANGED = {  # rows of the source now, and the first that the earlier answers do not fit
    "one is another": (["a", "x", "c", "d"], 1),
    "the first is gone": (["b", "c", "d"], 0),
    "the last is gone": (["a", "b", "c"], 3),
    "the last two are gone": (["a", "b"], 2),
    "one came first": (["x", "a", "b", "c", "d"], 0),
    "one came last": (["a", "b", "c", "d", "x"], 4),
}


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("change", CHANGED)
def test_a_source_that_changed_is_answered_anew_with_overwrite(change: str, kill: bool, tmp_path: Path) -> None:
    """Answers to rows that are the same stay; no row of the old source is left, none is lost, also after a kill."""
    out, (now, first) = tmp_path / "out.csv", CHANGED[change]

    def predict(names: list[str], most: int, *, finish: bool, overwrite: bool = True) -> list[int]:
        asked: list[int] = []
        with ResultFile(out, TASK, SAME, overwrite=overwrite) as results:
            for row, name in enumerate(names):
                if not results.has(row, f"{name}.jpg") and len(asked) < most:
                    asked.append(row)
                    results.add(row, f"{name}.jpg", Answer({"title": name, "price": 1.0}, text=name))
            if finish:
                results.require_rows(len(names))
                results.finish()
        return asked

    assert predict(["a", "b", "c", "d"], 9, finish=False) == [0, 1, 2, 3]
    if change != "one came last":
        with pytest.raises(SettingsError, match="start anew with --overwrite"):
            predict(now, 9, finish=True, overwrite=False)
    if kill:
        predict(now, 1, finish=False)
    asked = predict(now, 9, finish=True)
    assert set(asked) <= set(range(first, len(now)))
    with out.open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"{name}.jpg" for name in now]


def test_a_damaged_partial_file_is_named(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "out.csv", TASK, SAME) as results:
        results.add(1, "b.jpg", answer(1))
    with (tmp_path / "out.csv.partial.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    with pytest.raises(SettingsError, match="line 3 is no UTF-8"):
        ResultFile(tmp_path / "out.csv", TASK, SAME)


def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    first = ResultFile(tmp_path / "out.csv", TASK, SAME)
    with first, pytest.raises(SettingsError, match="another process predicts into"):
        ResultFile(tmp_path / "out.csv", TASK, SAME)
    with ResultFile(tmp_path / "out.csv", TASK, SAME) as results:
        results.add(0, "a.jpg", answer(0))


def test_a_full_disk_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a few bytes only, wherever that ends: the error says how to continue, and continuing gives all rows."""

    class Full:
        def __init__(self, file: Any, room: int) -> None:
            self._file, self._room = file, room

        def write(self, data: memoryview) -> int:
            if not self._room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self._file.write(data[: self._room])
            self._room -= written
            return int(written)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def fill(out: Path, room: int) -> None:
        with ResultFile(out, TASK, SAME) as results:
            results.log._file = Full(results.log._file, room)  # type: ignore[assignment]
            for row, name in enumerate(NAMES):
                results.add(row, name, answer(row))

    for room in range(0, 700, 7):
        out = tmp_path / str(room) / "out.jsonl"
        with pytest.raises(StorageError, match=r"No space left on device; make room and give the same command again"):
            fill(out, room)
        predict(out)
        assert out.read_text(encoding="utf-8").count("\n") + out.with_name("out.review.jsonl").read_text(
            encoding="utf-8"
        ).count("\n") == len(NAMES)


WRITER = """
import sys
from pathlib import Path
from tests.unit.extraction.test_answer_log import NAMES, SAME, TASK, answer
from phisight.extraction.results import ResultFile
with ResultFile(Path(sys.argv[1]), TASK, SAME) as results:
    print("ready", flush=True)
    row = 0
    while True:
        results.add(row, NAMES[row % 5], answer(row % 5))
        row += 1
"""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.003, 0.01, 0.05])
def test_a_process_that_is_killed(after: float, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(after)
        process.kill()
    with ResultFile(out, TASK, SAME) as results:
        rows = len(results)
        assert all(results.has(row, NAMES[row % 5]) for row in range(rows))
        assert results.finish() == (rows, 0)
