"""The tracker that is always on."""

import json
import logging
import math
from pathlib import Path

import pytest

from phisight.core.errors import RunError
from phisight.track import Example, JsonlTracker, Pairs, forget, read_metrics, read_steps

JPEG = b"\xff\xd8 stands for an image \xff\xd9"


def started(run_dir: Path) -> JsonlTracker:
    tracker = JsonlTracker()
    tracker.start(run_dir, {})
    return tracker


def test_what_was_logged_is_read_back(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.log(10, {"loss": 0.1 + 0.2})
    tracker.log(20, {"loss": 0.25, "eval/accuracy": 0.5})
    assert read_metrics(tmp_path) == {"loss": [(10, 0.1 + 0.2), (20, 0.25)], "eval/accuracy": [(20, 0.5)]}
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert line["step"] == 10
    assert line["time"] > 1.6e9


def test_figures_that_are_no_numbers_survive(tmp_path: Path) -> None:
    started(tmp_path).log(1, {"loss": math.nan, "norm": -math.inf})
    metrics = read_metrics(tmp_path)
    assert math.isnan(metrics["loss"][0][1])
    assert metrics["norm"] == [(1, -math.inf)]


def test_half_a_line_of_a_killed_process_is_dropped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started(tmp_path).log(1, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_metrics(tmp_path) == {"loss": [(1, 1.0)]}
    with caplog.at_level(logging.WARNING):
        started(tmp_path).log(2, {"loss": 0.5})
    assert "half a line (15 bytes)" in caplog.text
    assert read_metrics(tmp_path) == {"loss": [(1, 1.0), (2, 0.5)]}


def test_a_torn_line_longer_than_the_search_block(tmp_path: Path) -> None:
    started(tmp_path).log(1, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("x" * 200_000)
    started(tmp_path).log(2, {"loss": 0.5})
    assert read_metrics(tmp_path) == {"loss": [(1, 1.0), (2, 0.5)]}


def test_a_torn_first_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step"')
    started(tmp_path).log(2, {"loss": 0.5})
    assert read_metrics(tmp_path) == {"loss": [(2, 0.5)]}


def test_steps_done_again_after_a_resume_replace_the_earlier_attempt(tmp_path: Path) -> None:
    first = started(tmp_path)
    for step in (10, 20, 30):
        first.log(step, {"loss": float(step)})
    second = started(tmp_path)  # resumed from the checkpoint at step 15
    for step in (20, 40):
        second.log(step, {"loss": -float(step)})
    assert read_metrics(tmp_path)["loss"] == [(10, 10.0), (20, -20.0), (40, -40.0)]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl line 2 is no JSON"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("line", ['{"loss": 1.0}', "[1]"])
def test_a_line_that_is_no_step_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(RunError):
        read_metrics(tmp_path)


def test_examples_keep_truth_answer_and_image_once(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    row = Example("A-1", JPEG, "Product: <b>", "Product: Schürze")
    tracker.log_examples(5, [row])
    tracker.log_examples(10, [row])
    lines = read_steps(tmp_path / "examples.jsonl")
    assert [line["step"] for line in lines] == [5, 10]
    assert lines[1]["rows"][0] == {**lines[1]["rows"][0], "truth": "Product: <b>", "answer": "Product: Schürze"}
    images = list((tmp_path / "examples").iterdir())
    assert len(images) == 1
    assert (tmp_path / lines[0]["rows"][0]["image"]).read_bytes() == JPEG


def test_pairs_and_summary(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.log_pairs(5, Pairs("price", "number", [1.0, 2.0], [1.5, math.inf]))
    tracker.finish({"price_mae": 0.25}, {"best": tmp_path / "best"})
    (line,) = read_steps(tmp_path / "pairs.jsonl")
    assert line["predicted"] == [1.5, "inf"]
    assert json.loads((tmp_path / "summary.json").read_text())["summary"] == {"price_mae": 0.25}


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="2 truths but 1 answers"):
        Pairs("price", "number", [1.0, 2.0], [1.0])


def test_logging_before_the_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="start"):
        JsonlTracker().log(1, {})


def test_a_folder_used_anew_forgets_the_run_before(tmp_path: Path) -> None:
    tracker = JsonlTracker()
    tracker.start(tmp_path, {})
    tracker.log(1, {"loss": 1.0})
    tracker.finish({"loss": 1.0}, {})
    for name in ("wandb.json", "mlflow.json"):
        (tmp_path / name).write_text('{"id": "a"}')
    (tmp_path / "config.yaml").write_text("seed: 1")
    forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
