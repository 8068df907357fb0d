"""A training run as Weights & Biases gets it, read back from the files of the real offline client."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phisight.track import EXAMPLES, read_metrics, read_steps
from tests.helpers.trained_run import trained

pytest.importorskip("wandb", reason="the wandb extra is not installed")

from tests.helpers.wandb_file import closed, history, no_account, records


@pytest.fixture(scope="module")
def run(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with no_account():
        track = {"to": ["wandb"], "project": "shop", "entity": "team"}
        yield trained(products, tmp_path_factory.mktemp("tracked") / "blue-run", track=track, answer_rows=4)


@pytest.fixture(scope="module")
def lines(run: Path) -> list[dict[str, Any]]:
    return history(closed(run))


def test_every_figure_equals_metrics_jsonl(run: Path, lines: list[dict[str, Any]]) -> None:
    curves = read_metrics(run)
    assert {"train/loss", "eval/loss", "eval/category_accuracy", "eval/title_edit_similarity"} <= curves.keys()
    for name, points in curves.items():
        found = {line["step"]: line[name] for line in lines if name in line}
        assert found == dict(points), name


def test_each_evaluation_has_images_with_truth_and_answer(run: Path, lines: list[dict[str, Any]]) -> None:
    shown = {line["step"]: line["images.captions"] for line in lines if "images.captions" in line}
    logged = read_steps(run / EXAMPLES)
    assert list(shown) == [line["step"] for line in logged] == [0, 2, 4]
    for line in logged:
        assert shown[line["step"]] == [f"truth: {row['truth']}\nanswer: {row['answer']}" for row in line["rows"]]


def test_each_evaluation_has_a_confusion_matrix(run: Path) -> None:
    tables = list(run.glob("wandb/offline-run-*/files/media/table/category_confusion_table*.json"))
    assert len(tables) == 3
    for table in tables:
        assert sum(row[2] for row in json.loads(table.read_text())["data"]) == 4


def test_the_data_set_and_the_best_model_are_artifacts(run: Path, products: Path) -> None:
    every = list(records(closed(run)))
    asked = [one.request.log_artifact.artifact for one in every if one.request.HasField("log_artifact")]
    by_kind = {one.type: one for one in asked + [one.artifact for one in every if one.HasField("artifact")]}
    model, data = by_kind["model"], by_kind["dataset"]
    assert sorted(model.aliases) == ["best", "latest"]
    assert {entry.path for entry in model.manifest.contents} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert {entry.path for entry in data.manifest.contents} >= {"dataset.json", "metadata.parquet"}
    assert len(data.manifest.contents) > 60


def test_names_come_from_the_settings(run: Path) -> None:
    (opened,) = (one.run for one in records(closed(run)) if one.WhichOneof("record_type") == "run")
    assert (opened.entity, opened.project, opened.display_name) == ("team", "shop", "blue-run")
    config = {item.key: json.loads(item.value_json) for item in opened.config.update}
    assert config["train"]["answer_rows"] == 4
