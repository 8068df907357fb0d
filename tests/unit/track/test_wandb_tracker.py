"""Weights & Biases with the real client: an offline run is written and read back from its files."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phisight.track import Example, Pairs, open_tracker, read_metrics

pytest.importorskip("wandb", reason="the wandb extra is not installed")

from tests.helpers.wandb_file import closed, history, no_account, records

pytestmark = pytest.mark.process

HOSTILE = "<script>alert(1)</script>"


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module", autouse=True)
def clean_environment() -> Iterator[None]:
    with no_account():
        yield


def train(run_dir: Path, **options: Any) -> None:
    """What a training run logs, in small."""
    dataset, best = run_dir / "data", run_dir / "best"
    for folder in (dataset, best):
        folder.mkdir(exist_ok=True)
        (folder / "file.txt").write_text(folder.name)
    tracker = open_tracker(["wandb"], {"wandb": {"project": "shop", "entity": "team", **options}})
    tracker.start(run_dir, {"train": {"lr": 1e-3}, "seed": 7})
    for step in (10, 20, 30):
        tracker.log(step, {"loss": 1 / step, "eval/category_accuracy": step / 100})
    tracker.log_examples(30, [Example("A-1", jpeg("red"), "Product: A", HOSTILE)])
    tracker.log_pairs(30, Pairs("category", "category", ["HATS", "BAGS"], ["HATS", "HATS"]))
    tracker.log_pairs(30, Pairs("price", "number", [10.0, 20.0], [11.0, 18.0]))
    tracker.finish({"category_accuracy": 0.5}, {"dataset": dataset, "best": best})
    assert tracker.active == ["wandb"], "the adapter failed"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "red-run"
    folder.mkdir()
    train(folder)
    return folder


def run_file(run_dir: Path) -> Path:
    return closed(run_dir)


def artifacts(run_dir: Path) -> list[Any]:
    every = list(records(run_file(run_dir)))
    asked = [record.request.log_artifact.artifact for record in every if record.request.HasField("log_artifact")]
    return asked + [record.artifact for record in every if record.HasField("artifact")]


def test_history_equals_metrics_jsonl(run_dir: Path) -> None:
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in history(run_file(run_dir)):
        for name in ("loss", "eval/category_accuracy"):
            if name in line:
                curves.setdefault(name, []).append((line["step"], line[name]))
    assert curves == read_metrics(run_dir)
    assert len(curves["loss"]) == 3


def test_run_has_the_configuration_and_the_names_from_the_settings(run_dir: Path) -> None:
    (run,) = (record.run for record in records(run_file(run_dir)) if record.WhichOneof("record_type") == "run")
    assert (run.entity, run.project, run.display_name) == ("team", "shop", "red-run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["train"] == {"lr": 1e-3}
    assert config["seed"] == 7
    assert run.run_id == json.loads((run_dir / "wandb.json").read_text())["id"]


def test_table_holds_image_truth_and_answer(run_dir: Path) -> None:
    (artifact,) = (one for one in artifacts(run_dir) if one.name.endswith("-examples"))
    stored = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    table = json.loads(stored["examples.table.json"].read_text())
    assert table["columns"] == ["key", "image", "truth", "answer", "equal"]
    ((key, image, truth, answer, equal),) = table["data"]
    assert (key, truth, answer, equal) == ("A-1", "Product: A", HOSTILE, False)
    red = Image.open(stored[image["path"]]).convert("RGB").getpixel((4, 4))
    assert isinstance(red, tuple)
    assert red[0] > 240 > 10 > red[1]


def test_images_of_a_step_carry_truth_and_answer(run_dir: Path) -> None:
    (line,) = (line for line in history(run_file(run_dir)) if "images.captions" in line)
    assert line["step"] == 30
    assert line["images.captions"] == [f"truth: Product: A\nanswer: {HOSTILE}"]
    assert len(list((run_dir / "wandb").glob("offline-run-*/files/media/images/*.jpg"))) == 1


def test_confusion_matrix_and_scatter_hold_the_counts(run_dir: Path) -> None:
    tables = list((run_dir / "wandb").glob("offline-run-*/files/media/table/*.table.json"))
    read = {path.name.split("_table")[0]: json.loads(path.read_text()) for path in tables}
    confusion = next(table for name, table in read.items() if name.startswith("category"))
    counts = {(truth, answer): count for truth, answer, count in confusion["data"]}
    assert counts["HATS", "HATS"] == 1
    assert counts["BAGS", "HATS"] == 1
    scatter = next(table for name, table in read.items() if name.startswith("price"))
    assert scatter["data"] == [[10.0, 11.0], [20.0, 18.0]]


def test_artifacts_are_the_data_set_and_the_model_with_aliases(run_dir: Path) -> None:
    by_kind = {artifact.type: artifact for artifact in artifacts(run_dir)}
    assert sorted(by_kind["model"].aliases) == ["best", "latest"]
    assert list(by_kind["dataset"].aliases) == ["latest"]
    for kind in ("model", "dataset"):
        assert [entry.path for entry in by_kind[kind].manifest.contents] == ["file.txt"]


def test_the_data_set_keeps_its_name_over_runs(run_dir: Path) -> None:
    by_kind = {artifact.type: artifact for artifact in artifacts(run_dir)}
    assert by_kind["dataset"].name == "dataset-data"
    assert by_kind["model"].name.endswith("-best")


def test_system_figures_are_there(run_dir: Path) -> None:
    named = {item.key for record in records(run_file(run_dir)) for item in record.stats.item}
    assert any(name.startswith("memory") for name in named), named


def test_nothing_is_sent_and_no_code_or_commit_is_recorded(run_dir: Path) -> None:
    files = {path.name for path in (run_dir / "wandb").rglob("*") if path.is_file()}
    assert not any(name.endswith(".py") for name in files)
    metadata = [json.loads(path.read_text()) for path in (run_dir / "wandb").rglob("wandb-metadata.json")]
    assert all("git" not in entry for entry in metadata)


def test_a_second_process_continues_the_same_run(tmp_path: Path) -> None:
    (tmp_path / "wandb.json").write_text('{"id": "abc123"}')
    tracker = open_tracker(["wandb"], {"wandb": {"project": "shop"}})
    tracker.start(tmp_path, {})
    tracker.log(40, {"loss": 0.1})
    tracker.finish({}, {})
    path = closed(tmp_path)
    assert path.name == "run-abc123.wandb"
    assert history(path)[0]["step"] == 40


def test_a_server_that_does_not_answer_makes_an_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with caplog.at_level(logging.WARNING):
        tracker = open_tracker(["wandb"], {"wandb": {"mode": "online", "init_timeout": 3.0}})
        tracker.start(tmp_path, {})
    assert "continuing offline" in caplog.text
    assert "0" * 40 not in caplog.text
    tracker.log(1, {"loss": 1.0})
    tracker.finish({}, {})
    assert tracker.active == ["wandb"]
    assert history(run_file(tmp_path))[0]["loss"] == 1.0
