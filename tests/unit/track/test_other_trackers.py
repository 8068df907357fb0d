"""TensorBoard, MLflow and trackio: what was logged is read back with their own readers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phisight.track import Example, Pairs, open_tracker, read_metrics


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    return file.getvalue()


def train(run_dir: Path, name: str, **options: Any) -> None:
    tracker = open_tracker([name], {name: options})
    tracker.start(run_dir, {"seed": 7, "train": {"lr": 1e-3}})
    for step in (10, 20):
        tracker.log(step, {"loss": 1 / step, "eval/category_accuracy": step / 100})
    tracker.log_examples(20, [Example("A-1", jpeg(), "Product: A", "Product: B")])
    tracker.log_pairs(20, Pairs("price", "number", [10.0, 20.0], [11.0, 18.0]))
    tracker.log_pairs(20, Pairs("category", "category", ["HATS"], ["BAGS"]))
    (run_dir / "scores.json").write_text("{}")
    tracker.finish({"category_accuracy": 0.2}, {"scores": run_dir / "scores.json"})
    assert tracker.active == [name], "the adapter failed"


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the tensorboard extra is not installed")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tmp_path, "tensorboard")
    read = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    for name, points in read_metrics(tmp_path).items():
        assert [event.step for event in read.Scalars(name)] == [step for step, _ in points]
        assert [event.value for event in read.Scalars(name)] == pytest.approx([value for _, value in points])
    assert read.Images("examples/0")[0].step == 20
    texts = read.Tensors("examples/0/text_summary")
    assert b"Product: B" in texts[0].tensor_proto.string_val[0]
    assert read.Histograms("price/truth")[0].histogram_value.num == 2


@pytest.mark.process
def test_mlflow_file_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the mlflow extra is not installed")
    from mlflow.tracking import MlflowClient

    train(tmp_path, "mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "mlruns").resolve()
    client = MlflowClient(store.as_uri())
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["id"]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7", "train": "{'lr': 0.001}"}
    for name, points in read_metrics(tmp_path).items():
        assert [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)] == points
    (artifacts,) = store.glob(f"*/{run_id}/artifacts")
    assert (artifacts / "examples" / "step-20" / "0.jpg").read_bytes() == jpeg()
    assert (
        json.loads((artifacts / "examples" / "step-20" / "table.json").read_text())["rows"][0]["truth"] == "Product: A"
    )
    assert json.loads((artifacts / "pairs" / "price-step-20.json").read_text())["predicted"] == [11.0, 18.0]
    assert (artifacts / "scores" / "scores.json").is_file()


@pytest.mark.process
def test_mlflow_continues_the_same_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the mlflow extra is not installed")
    train(tmp_path, "mlflow")
    train(tmp_path, "mlflow")
    assert len(list((tmp_path / "mlruns").glob("*/*/artifacts"))) == 1


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    pytest.importorskip("trackio", reason="the trackio extra is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    train(tmp_path, "trackio", project="shop")
    logs = SQLiteStorage.get_logs("shop", tmp_path.name)
    for name, points in read_metrics(tmp_path).items():
        assert [(line["step"], line[name]) for line in logs if name in line] == points
    (table,) = (line["examples"] for line in logs if "examples" in line)
    assert table["_value"][0]["answer"] == "Product: B"
