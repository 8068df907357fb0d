"""A run's own wrong answers become pairs: field by field, counted, continued after a stop."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import RunError, SettingsError
from phisight.core.read_files import read_object, read_objects
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import PAIRS, read_pairs
from phisight.evaluate import EvalRow, read_rows
from phisight.workflows.pairs.make_pairs import ANSWERS, SUMMARY, Sampling, make_pairs
from phisight.workflows.pairs.pair_answers import WHOLE, rejected_answers

TASK = Task(answer="A: {a}, K: {k}, N: {n}", fields={"a": "text", "k": "category", "n": "number"})
TRUTH: dict[str, Any] = {"a": "scarf", "k": "HATS", "n": 20.0}
ROW = EvalRow("1", Path("1.jpg"), TRUTH, TASK.render(TRUTH))
RIGHT = "A: scarf, K: HATS, N: 20.0"


@pytest.mark.parametrize(
    ("answers", "expected", "unwritable"),
    [
        ([RIGHT, RIGHT], {}, 0),
        (["A: scarf, K: HATS, N: 21.5"], {}, 0),  # within a tenth of the truth
        (["A: shoe, K: HATS, N: 20.0"], {"a": ("A: shoe, K: HATS, N: 20.0", 1)}, 0),
        (
            ["A: shoe, K: BAGS, N: 99", "A: shoe, K: HATS, N: 5", RIGHT, "A: coat, K: HATS, N: 5"],
            {
                "a": ("A: shoe, K: HATS, N: 20.0", 2),
                "k": ("A: scarf, K: BAGS, N: 20.0", 1),
                "n": ("A: scarf, K: HATS, N: 5.0", 2),
            },
            0,
        ),
        (["scarf scarf", "scarf scarf", "A: hm"], {WHOLE: ("scarf scarf", 2)}, 0),
        (["", "  ", "A <|user|>"], {}, 0),
        (["A: x, A: y, K: HATS, N: 20.0"], {"a": ("A: x, A: y, K: HATS, N: 20.0", 1)}, 0),
    ],
    ids=lambda value: str(value)[:50],
)
def test_rejected_answers_differ_in_what_was_wrong(
    answers: list[str], expected: dict[str, tuple[str, int]], unwritable: int
) -> None:
    assert rejected_answers(TASK, ROW, answers) == (expected, unwritable)


@pytest.fixture(scope="module")
def made(tiny_run: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rows: three answered by a model that has hardly learned, three as written here."""
    out = tmp_path_factory.mktemp("made") / "pairs"
    seen: list[tuple[int, int]] = []
    sampling = Sampling(samples=3, rows=6)
    with contextlib.suppress(RunError):  # where no answer of the model ends, there is no pair yet
        make_pairs(tiny_run, out, sampling, progress=lambda *one: seen.append(one))
    assert seen[-1] == (6, 6)
    answers = dict(json.loads(line) for line in (out / ANSWERS).read_text(encoding="utf-8").splitlines())
    rows = read_rows(products, DatasetFolder.open(products).task, "train", limit=6, seed=0).rows
    for row in range(3):
        answers[row] = [rows[row + 1].expected, rows[row].expected, rows[row].expected]
    lines = (json.dumps([row, answers[row]]) + "\n" for row in range(6))
    (out / ANSWERS).write_text("".join(lines), encoding="utf-8")
    found = make_pairs(tiny_run, out, sampling)
    assert found.rows == 6
    assert found.always_right == 0
    assert sum(found.pairs.values()) == len(list(read_objects(out / PAIRS))) >= 3
    return out


def test_the_folder_can_be_trained_on(made: Path, products: Path) -> None:
    folder = DatasetFolder.open(products)
    rows, left_out = read_pairs(made, folder)
    assert left_out == []
    assert rows
    truths = {folder.task.render(row) for row in folder.rows("train")}
    for pair in read_objects(made / PAIRS):
        assert pair["chosen"] in truths
        assert pair["rejected"] != pair["chosen"]
        if pair["field"] == WHOLE:
            continue
        right, wrong = (folder.task.parse(pair[side]).values for side in ("chosen", "rejected"))
        assert right is not None
        assert wrong is not None
        assert [name for name in right if right[name] != wrong[name]] == [pair["field"]]


def test_a_stopped_sampling_continues(made: Path, tiny_run: Path, tmp_path: Path) -> None:
    """What is there already is not asked again; a line that was cut is."""
    lines = (made / ANSWERS).read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    out = tmp_path / "pairs"
    out.mkdir()
    (out / SUMMARY).write_bytes((made / SUMMARY).read_bytes())
    (out / ANSWERS).write_bytes(b"".join(lines[:3]) + lines[3][:7])
    said: list[str] = []
    done: list[int] = []
    make_pairs(tiny_run, out, Sampling(samples=3, rows=6), progress=lambda n, _: done.append(n), notify=said.append)
    assert any("3 of 6 rows are answered" in line for line in said)
    assert done[-1] == 6
    assert len(done) == 9  # three rows, three answers each
    assert (out / ANSWERS).read_bytes().startswith(b"".join(lines[:3]))
    assert sorted((out / ANSWERS).read_bytes().splitlines()) == sorted(line.rstrip() for line in lines)
    assert (out / PAIRS).read_bytes() == (made / PAIRS).read_bytes()
    assert read_object(out / SUMMARY) == read_object(made / SUMMARY)


@pytest.mark.parametrize("change", [{"samples": 4}, {"temperature": 0.5}, {"seed": 1}, {"rows": 7}], ids=str)
def test_other_settings_need_another_folder(made: Path, tiny_run: Path, change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="choose another --out"):
        make_pairs(tiny_run, made, Sampling(**{"samples": 3, "rows": 6, **change}))


@pytest.mark.parametrize("change", [{"samples": 0}, {"temperature": 0.0}], ids=str)
def test_greedy_answers_are_refused(tiny_run: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="must be above 0"):
        make_pairs(tiny_run, tmp_path / "out", Sampling(**change))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SettingsError, match="is not empty"):
        make_pairs(tiny_run, tmp_path, Sampling())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_rows_that_give_no_pair_are_said(made: Path, tiny_run: Path, tmp_path: Path) -> None:
    """A journal in which every answer is the truth."""
    out = tmp_path / "pairs"
    out.mkdir()
    (out / SUMMARY).write_bytes((made / SUMMARY).read_bytes())
    (out / ANSWERS).write_text("".join(f"[{row}, null]\n" for row in range(6)), encoding="utf-8")
    with pytest.raises(RunError, match="none of 6 rows gives a pair"):
        make_pairs(tiny_run, out, Sampling(samples=3, rows=6))
    assert read_object(out / SUMMARY)["counts"]["failed"] == 6
