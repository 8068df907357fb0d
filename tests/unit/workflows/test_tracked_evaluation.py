"""What ``phisight evaluate`` sends to the trackers of a run, read back with the real clients."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from phisight.core.recipe import changed
from phisight.core.settings import EvaluateSettings, TrackSettings
from phisight.export.subject import read_run
from phisight.workflows.evaluate import evaluate_run

pytest.importorskip("wandb", reason="the wandb extra is not installed")
pytest.importorskip("tensorboardX", reason="the tensorboard extra is not installed")

from tests.helpers.wandb_file import closed, history, no_account, records

RUN_ID = "abcd1234"


def few(run: Path) -> EvaluateSettings:
    return changed(read_run(run).evaluate, rows=5)


SAMPLED = "evaluations/validation-5-rows"


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that Weights & Biases knows by its id, evaluated with two trackers; four steps, the best one known."""
    folder = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("known") / "run"))
    (folder / "wandb.json").write_text(json.dumps({"id": RUN_ID}))
    with no_account():
        track = TrackSettings(to=["wandb", "tensorboard"], project="shop")
        evaluate_run(folder, settings=few(folder), track=track, base_model_rows=3)
        yield folder


@pytest.fixture(scope="module")
def scores(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / SAMPLED / "scores.json").read_text()))


@pytest.fixture(scope="module")
def best_step(run: Path) -> int:
    return int(json.loads((run / "summary.json").read_text())["summary"]["best_step"])


def test_the_run_with_that_id_gets_the_figures(run: Path, scores: dict[str, Any], best_step: int) -> None:
    (opened,) = (one.run for one in records(closed(run)) if one.WhichOneof("record_type") == "run")
    assert (opened.run_id, opened.project) == (RUN_ID, "shop")
    lines = history(closed(run))
    assert {line["step"] for line in lines} == {best_step}
    found = {name: value for line in lines for name, value in line.items()}
    for name in ("parse_rate", "title_edit_similarity", "category_accuracy", "price_mae_penalized"):
        assert found[f"validation/{name}"] == scores[name]
        assert found[f"validation/shuffled/{name}"] == scores["shuffled"][name]
        assert found[f"validation/base_model/{name}"] == scores["base_model"][name]
    assert scores["grounding"]["conclusion"] == "too few", "five rows tell neither yes nor no"
    assert "validation/uses_image" not in found


def test_images_confusion_and_scores_go_with_them(run: Path, scores: dict[str, Any]) -> None:
    shown = next(line for line in history(closed(run)) if "validation/images.captions" in line)
    table = pq.read_table(run / SAMPLED / "predictions.parquet").to_pylist()
    texts = {f"truth: {row['expected']}\nanswer: {row['answer']}" for row in table if row["images"] == "real"}
    assert set(shown["validation/images.captions"]) == texts
    (confusion,) = run.glob("wandb/offline-run-*/files/media/table/validation/category_confusion_table*.json")
    assert sum(row[2] for row in json.loads(confusion.read_text())["data"]) == scores["rows"] == 5
    every = list(records(closed(run)))
    sent = [one.request.log_artifact.artifact for one in every if one.request.HasField("log_artifact")]
    sent += [one.artifact for one in every if one.HasField("artifact")]
    assert [entry.path for one in sent if one.type == "result" for entry in one.manifest.contents] == ["scores.json"]


def test_tensorboard_gets_the_same(run: Path, scores: dict[str, Any], best_step: int) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    (point,) = read.Scalars("validation/title_edit_similarity")
    assert point.step == best_step
    assert point.value == pytest.approx(scores["title_edit_similarity"])
    assert read.Images("validation/examples/0")[0].step == best_step


def test_curves_and_examples_of_training_stay_as_they_were(run: Path, tiny_run: Path) -> None:
    for name in ("metrics.jsonl", "examples.jsonl", "pairs.jsonl", "summary.json"):
        assert (run / name).read_bytes() == (tiny_run / name).read_bytes()


def test_nothing_is_sent_unless_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    evaluate_run(folder, settings=changed(few(folder), rows=1), base_model_rows=0)
    assert not {"wandb", "wandb.json", "tensorboard", "mlruns"} & {path.name for path in folder.iterdir()}


def test_a_tracker_that_fails_costs_no_evaluation(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from phisight.track.tensorboard_tracker import TensorboardTracker

    def unreachable(*_: Any) -> None:
        raise ConnectionError("the server does not answer")

    monkeypatch.setattr(TensorboardTracker, "log", unreachable)
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    settings = changed(few(folder), rows=1)
    found = evaluate_run(folder, settings=settings, track=TrackSettings(to=["tensorboard"]), base_model_rows=0)
    assert found["rows"] == 1
    assert (folder / "evaluations" / "validation-1-rows" / "scores.json").is_file()
    assert "tracker tensorboard failed (ConnectionError: the server does not answer)" in caplog.text
