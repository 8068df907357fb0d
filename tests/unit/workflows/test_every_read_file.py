"""Every file that a command reads has a test that damages it; those without one of their own are damaged here."""

import ast
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

import phisight
from phisight.core.run_folder import LIMITS
from phisight.data.build.build_dataset import build
from phisight.data.build.work.journal import Journal
from phisight.data.build.work.worklog import entry, log_line, log_path, read_log
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import PAIRS, read_pairs
from phisight.data.images.rejection import Rejection
from phisight.evaluate.generate_answers import AnswerLog as EvaluationLog
from phisight.extraction.answer_log import AnswerLog as PredictionLog
from phisight.extraction.image_list import ImageList
from phisight.track.jsonl import cut_back, recorded_id
from phisight.track.tracker import MLFLOW_ID, WANDB_ID
from phisight.train.cache.store import TensorStore
from phisight.train.checkpoint.save_restore import SCHEDULE, restore_schedule
from phisight.train.checkpoint.training_state import TRAINED, read_trained
from phisight.workflows.pairs.make_pairs import ANSWERS, _Journal
from tests.helpers.damage import damaged_bytes, damaged_json
from tests.helpers.images import write_images
from tests.helpers.refusals import refusal
from tests.helpers.url_list import OPTIONS, write_list

SOURCE = Path(phisight.__file__).parent
HERE = Path(__file__)
TESTS = HERE.parents[2]
SUFFIXES = (".json", ".jsonl", ".yaml", ".parquet", ".safetensors", ".pt", ".sqlite")
DATA, RUNS, MANY = "unit/data/test_damaged_files.py", "unit/workflows/test_damaged_run_files.py", HERE.name
CASES = {
    "dataset.json": DATA, "rejects.jsonl": DATA, "metadata.parquet": DATA, "sample.json": DATA, "origins.json": DATA,
    "config.json": DATA, "config.yaml": DATA, "environment.json": DATA, "metrics.jsonl": DATA, "summary.json": DATA,
    "examples.jsonl": DATA, "predictions.parquet": DATA, "scores.json": DATA,
    "adapter_config.json": RUNS, "adapter_model.safetensors": RUNS, "number_head.safetensors": RUNS,
    "model.safetensors": RUNS, "manifest.json": RUNS, "trainer_state.json": RUNS, "progress.json": RUNS,
    "optimizer.pt": RUNS,
    "limits.json": MANY, "pairs.jsonl": MANY, "answers.jsonl": MANY, "trained.safetensors": MANY, "scheduler.pt": MANY,
    "wandb.json": MANY, "mlflow.json": MANY, "journal.sqlite": MANY, "rows.parquet": MANY, "task.json": MANY,
    "unfamiliar.safetensors": "unit/extraction/test_familiarity.py",
    "pairs.json": MANY, "model.safetensors.index.json": MANY,
    "preprocessor_config.json": RUNS, "tokenizer_config.json": RUNS, "metadata.jsonl": MANY,
}  # fmt: skip
"""Where a file is damaged."""
UNREAD = {
    "figures.json": "what the small base measured, for people",
    "attributes.parquet": "the truth of drawn rows, for people", "faults.jsonl": "the planted faults, for people",
    **dict.fromkeys(("dataset_info.json", "dataset_infos.json", "package.json", "state.json"), "known to be no table"),
}  # fmt: skip


def names_of_files() -> set[str]:
    """Names of files among the constants of all modules, and those that are written where they are used."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign):
                found |= {
                    one.value
                    for one in ast.walk(node.value)
                    if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value.endswith(SUFFIXES)
                }
        found |= {
            node.right.value
            for node in ast.walk(tree)
            if isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Div)
            and isinstance(node.right, ast.Constant)
            and isinstance(node.right.value, str)
            and node.right.value.endswith(SUFFIXES)
        }
    return {
        name for name in found if not name.startswith(".") and " " not in name and "*" not in name and "/" not in name
    }


def test_every_file_has_a_test_that_damages_it() -> None:
    found = names_of_files()
    assert sorted(found - set(CASES) - set(UNREAD)) == [], "a new file: damage it here, or say why nobody reads it"
    assert sorted((set(CASES) | set(UNREAD)) - found) == [], "nobody reads these any more"
    for name, where in CASES.items():
        text = (HERE if where == MANY else TESTS / where).read_text(encoding="utf-8")
        assert CONSTANTS.get(name, f'"{name}"') in text.rpartition("CONSTANTS = {")[2], (
            f"{where} does not damage {name}"
        )


CONSTANTS = {
    "manifest.json": "/ MANIFEST", "limits.json": "/ LIMITS", "pairs.jsonl": "/ PAIRS", "answers.jsonl": "/ ANSWERS",
    "trained.safetensors": "/ TRAINED", "scheduler.pt": "/ SCHEDULE", "wandb.json": "WANDB_ID,",
    "mlflow.json": "MLFLOW_ID]", "unfamiliar.safetensors": '/ UNFAMILIAR',
}  # fmt: skip
"""How a test calls a file that it does not name."""


def refused(read: Callable[[], Any], path: Path, cases: Iterator[tuple[str, bytes]]) -> int:
    """Read a file in each damaged state; how many were refused, each in one line."""
    whole, count = path.read_bytes() if path.is_file() else None, 0
    for name, data in cases:
        path.write_bytes(data)
        message = refusal(read, f"{path.name}, {name}")
        count += bool(message)
        assert "\n" not in message, f"{name}: {message}"
        assert len(message) < 1500, f"{name}: {message}"
    if whole is not None:
        path.write_bytes(whole)
    return count


def lines_of(values: Any, before: bytes = b"", after: bytes = b"") -> Iterator[tuple[str, bytes]]:
    """Damages of a line between whole ones, and of the file."""
    data = json.dumps(values).encode()
    yield from damaged_bytes(before + data + b"\n" + after, flips=20)
    yield from ((name, before + line + b"\n" + after) for name, line in damaged_json(data))


def test_limits(tmp_path: Path) -> None:
    whole = AnswerLimits({"kind": ["hat", "shoe"]}, {"price": (1.0, 9.0)}, {"price": 2})
    whole.write(tmp_path)
    assert AnswerLimits.recorded(tmp_path) == whole
    path = tmp_path / LIMITS
    data = path.read_bytes()
    cases = [*damaged_bytes(data), *damaged_json(data)]
    assert refused(lambda: AnswerLimits.recorded(tmp_path), path, iter(cases)) > 60


def test_the_answers_of_an_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "predictions.real.jsonl"

    def read() -> None:
        with EvaluationLog(path, "print", ["a"]) as log:
            assert all(type(row) is int for row in (*log.answers, *log.failures))
            assert all(isinstance(text, str) for text in (*log.answers.values(), *log.failures.values()))
            assert all(0 <= one["a"] <= 1 for one in log.confidences.values())

    first = json.dumps({"evaluation": "print"}).encode() + b"\n"
    lines: list[dict[str, Any]] = [
        {"row": 3, "answer": "A: b", "written": "A: c", "unread": "cut"},
        {"row": 3, "answer": "A: b", "confidence": {"a": 0.5}},
        {"row": 4, "failed": "why"},
    ]
    for line in lines:
        assert refused(read, path, lines_of(line, first, b'{"row": 5, "answer": "x"}\n')) > 20


def test_the_answers_of_a_prediction(tmp_path: Path) -> None:
    path = tmp_path / "out.partial.jsonl"

    def read() -> None:
        PredictionLog(path, {"model": "m"}).close()

    read()
    first = path.read_bytes().splitlines(keepends=True)[0]
    assert refused(read, path, lines_of({"row": 3, "image": "a.jpg", "cells": {"a": 1}}, first, first)) > 20


def test_the_answers_that_pairs_are_made_of(tmp_path: Path) -> None:
    """``answers.jsonl``: a damaged line is a row that is asked again."""
    path = tmp_path / ANSWERS
    for name, data in lines_of([1, ["A: b", "A: c"]], b'[0, ["x", "y"]]\n'):
        path.write_bytes(data)
        done = _Journal(path, 2, 2).done
        good = all(texts is None or all(isinstance(one, str) for one in texts) for texts in done.values())
        assert good, name
        assert set(done) <= {0, 1}, name


@pytest.mark.parametrize("name", [WANDB_ID, MLFLOW_ID])
def test_the_id_that_a_tracker_gave(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"id": "abc"}')
    assert recorded_id(path) == "abc"
    cases = [*damaged_bytes(path.read_bytes()), *damaged_json(path.read_bytes())]
    assert refused(lambda: recorded_id(path), path, iter(cases)) > 15


def test_metrics_that_are_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert refused(lambda: cut_back(tmp_path, 3), path, lines_of({"step": 2, "loss": 1.0}, b"", b'{"step": 9}\n')) > 5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    (folder / "shop").mkdir()
    build(str(write_list(folder / "shop" / "t.csv", write_images(folder / "shop", 4))), folder / "ds", OPTIONS)
    return folder


@pytest.mark.slow
def test_what_an_interrupted_build_left(built: Path, tmp_path: Path) -> None:
    """``journal.sqlite``, ``rows.parquet`` and the logs of workers."""
    source, whole = built / "shop" / "t.csv", (built / "ds" / "metadata.parquet").read_bytes()
    folder = tmp_path / "ds"
    journal = Journal(folder)
    journal.record([entry(f"url:{at}", Rejection("timeout", "slow")) for at in range(40)])
    journal.close()
    workspace = journal.workspace
    left = (workspace / "journal.sqlite").read_bytes()
    cases = [("journal.sqlite", data) for _, data in damaged_bytes(left, flips=6)]
    cases += [("rows.parquet", data) for data in (b"", b"PAR1", b"\0" * 50)]
    line = log_line(entry("file:1", Rejection("timeout", "slow")))
    cases += [(log_path(folder, 7).name, data) for _, data in damaged_bytes(line, flips=6)]
    for name, data in cases:
        shutil.rmtree(folder)
        workspace.mkdir(parents=True)
        (workspace / name).write_bytes(data)
        message = refusal(lambda: build(str(source), folder, OPTIONS), name)
        assert "\n" not in message
        if not message:
            assert (folder / "metadata.parquet").read_bytes() == whole, name
        else:
            assert name == "journal.sqlite", f"{name}: {message}"


def test_a_damaged_line_of_a_worker_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "finished-1.jsonl"
    stored = {"file_name": "images/a.jpg", "sha256": "0", "width": 9, "height": 9, "format": "jpeg", "size": 9,
              "phash": "0", "colors": "0"}  # fmt: skip
    good = json.dumps(["t", "stored", json.dumps(stored)]).encode() + b"\n"
    for name, text in damaged_json(json.dumps(stored).encode()):
        line = json.dumps(["u", "stored", text.decode("utf-8")]).encode() + b"\n"
        path.write_bytes(good + line)
        assert next(read_log(path))[0] == "t", name
    for name, line in lines_of(["u", "timeout", "slow"]):
        path.write_bytes(good + line)
        for parts in read_log(path):
            assert all(isinstance(part, str) for part in parts), name


@pytest.mark.slow
def test_pairs(built: Path, tmp_path: Path) -> None:
    data = DatasetFolder.open(built / "ds")
    image = data.rows()[0]["file_name"]
    path = tmp_path / PAIRS
    pair = {"images": [image], "prompt": "What?", "chosen": "A scarf", "rejected": "A shoe"}
    assert refused(lambda: read_pairs(tmp_path, data), path, lines_of(pair)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("listed", ["list.csv", "list.jsonl", "list.parquet", "metadata.jsonl"])
def test_a_list_of_images(built: Path, tmp_path: Path, listed: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / listed
    rows = [{"file_name": str(built / "shop" / "photos/0.jpg"), "title": "a"}]
    if listed.endswith(".csv"):
        path.write_text("file_name,title\n" + rows[0]["file_name"] + ",a\n")
    elif listed.endswith(".jsonl"):
        path.write_text(json.dumps(rows[0]) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)

    def read() -> None:
        list(ImageList([str(path)], "file_name"))

    read()
    cases = list(damaged_bytes(path.read_bytes(), flips=30))
    if listed.endswith(".jsonl"):
        cases += lines_of(rows[0])
    assert refused(read, path, iter(cases)) > 1


def test_a_cache_of_tensors(tmp_path: Path) -> None:
    """Vision features, hidden states and reference scores lie in such files: a damaged one lacks, or is named."""
    store = TensorStore(tmp_path, "0" * 32, ("a", "b"))
    store.write("one", {"a": torch.ones(3), "b": torch.zeros(2)})
    path = store.path("one")
    whole = path.read_bytes()
    states = [save({"a": torch.ones(3)}), save({"a": torch.ones(3), "c": torch.ones(1)})]
    cases = [*damaged_bytes(whole, flips=40), *(("other tensors", data) for data in states)]
    lacking = []

    def read() -> None:
        lacking.append(store.lacks("one"))
        store.load("one")

    assert refused(read, path, iter(cases)) > 10
    assert sum(lacking) > 10
    assert not store.lacks("one")


def test_trained_parameters(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    path = tmp_path / TRAINED
    path.write_bytes(save(dict(model.state_dict())))
    read_trained(model, tmp_path)
    others = [save({"weight": torch.ones(9, 9)}), save({"weight": torch.ones(2, 3, dtype=torch.float16)})]
    cases = [*damaged_bytes(path.read_bytes(), flips=40), *(("others", data) for data in others)]
    assert refused(lambda: read_trained(model, tmp_path), path, iter(cases)) > 10


def test_a_schedule(tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    path = tmp_path / SCHEDULE

    def saved(state: Any) -> bytes:
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    state = schedule.state_dict()
    path.write_bytes(saved(state))
    restore_schedule(tmp_path, schedule)
    contents: list[Any] = [None, [], {}, torch.ones(2), "text"]
    odds: list[Any] = [None, [], "x", {}]
    contents += [{**state, name: odd} for name in ("base_lrs", "last_epoch", "_last_lr") for odd in odds]
    cases = [(f"contents {str(one)[:60]}", saved(one)) for one in contents]
    assert refused(lambda: restore_schedule(tmp_path, schedule), path, iter(cases)) == len(cases)
    damaged = list(damaged_bytes(path.read_bytes(), flips=20))
    assert refused(lambda: restore_schedule(tmp_path, schedule), path, iter(damaged)) > 8
    restore_schedule(tmp_path, schedule)


@pytest.mark.parametrize("name", ["task.json", "pairs.json", "model.safetensors.index.json"])
def test_other_json_files(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from phisight.export.task_file import TaskFile
    from phisight.model.checkpoint import weight_files
    from phisight.workflows.pairs import make_pairs as pairs

    monkeypatch.setattr("phisight.model.checkpoint.WEIGHTS", "none.safetensors")
    (tmp_path / "a.safetensors").write_bytes(save({"a": torch.ones(1)}))
    sampling: Any = pairs.Sampling()
    data: Any = SimpleNamespace(path=Path("d"))
    contents: dict[str, Any] = {
        "task.json": {"format": "phisight-task/1", "task": {"prompt": "What?", "answer": "{a}"}},
        "pairs.json": {"settings": {"run": "r", "data": "d"}, "counts": {"pairs": 1}},
        "model.safetensors.index.json": {"weight_map": {"a": "a.safetensors"}, "metadata": {"total_size": 4}},
    }
    reads: dict[str, Callable[[], Any]] = {
        "task.json": lambda: TaskFile.read(tmp_path),
        "pairs.json": lambda: pairs._begin(tmp_path, Path("r"), data, sampling, None),
        "model.safetensors.index.json": lambda: weight_files(tmp_path),
    }
    written = json.dumps(contents[name]).encode()
    assert refused(reads[name], tmp_path / name, iter([*damaged_bytes(written), *damaged_json(written)])) > 20
