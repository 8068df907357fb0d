"""Answers on the validation split during training: the figures of an evaluation, in every tracker's terms."""

import json
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SettingsError
from phisight.core.recipe import changed, recipe_from
from phisight.core.task import Task
from phisight.pipelines.answering import evaluate_run
from phisight.pipelines.training import train
from phisight.pipelines.validation import judged_by, known_figures
from phisight.report.collect import collect
from phisight.sample.catalogue import make
from phisight.sample.settings import preset
from phisight.track import EXAMPLES, PAIRS, read_metrics, read_steps

SPLITS = ["train", "validation"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("products") / "data"
    make(60, folder, seed=0, settings=preset("demo"), workers=1, overwrite=True)
    return folder


def trained(data: Path, out: Path, **train_settings: Any) -> Path:
    settings = {"method": "full", "steps": 4, "batch_size": 4, "learning_rate": 3e-3, "log_every": 1}
    return train(
        recipe_from(
            {
                "out": str(out),
                "model": {"name": "tiny", "attention": "eager"},
                "data": {"path": str(data), "feature_cache": str(out / "features")},
                "train": {**settings, "evaluate_every": 2, **train_settings},
                "evaluate": {"max_new_tokens": 24, "batch_size": 4},
            }
        )
    )


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(data, tmp_path_factory.mktemp("runs") / "run", answer_rows=4)


def test_figures_are_those_of_an_evaluation(run: Path) -> None:
    """Of the best checkpoint, asked again by ``phisight evaluate`` about the same rows."""
    curves = read_metrics(run)
    best = json.loads((run / "summary.json").read_text())["summary"]["best_step"]
    during = {name[5:]: dict(points)[best] for name, points in curves.items() if name.startswith("eval/")}
    settings = changed(recipe_from({}).evaluate, split="validation", rows=4, max_new_tokens=24, batch_size=4)
    scores = evaluate_run(run, settings=settings)
    loss = during.pop("loss")
    assert loss > 0
    assert {"parse_rate", "title_edit_similarity", "category_accuracy", "price_mae_penalised"} <= during.keys()
    assert during == {name: pytest.approx(scores[name]) for name in during}


def test_each_evaluation_leaves_examples_and_pairs(run: Path) -> None:
    examples, pairs = read_steps(run / EXAMPLES), read_steps(run / PAIRS)
    assert [line["step"] for line in examples] == [2, 4]
    for line in examples:
        assert len(line["rows"]) == 4
        assert all(row["truth"].startswith("Product: ") and row["answer"] for row in line["rows"])
        assert all((run / row["image"]).stat().st_size > 500 for row in line["rows"])
    assert [row["key"] for row in examples[0]["rows"]] == [row["key"] for row in examples[1]["rows"]]
    assert {(line["step"], line["field"]) for line in pairs} >= {(2, "category"), (4, "category")}
    assert collect(run).steps == [2, 4]


def test_answers_do_not_change_what_is_learned(data: Path, tmp_path: Path) -> None:
    """With adapters, bfloat16 and stored features: answers are from the pixels all the same."""
    settings = {"method": "lora", "steps": 2, "evaluate_every": 1, "bf16": True}
    asked = trained(data, tmp_path / "asked", answer_rows=3, **settings)
    plain = trained(data, tmp_path / "plain", **settings)
    for name in ("train/loss", "eval/loss"):
        assert read_metrics(asked)[name] == read_metrics(plain)[name]
    assert "eval/parse_rate" in read_metrics(asked)
    assert "eval/parse_rate" not in read_metrics(plain)
    assert any((tmp_path / "asked" / "features").glob("*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best": "category_acuracy", "answer_rows": 4}, "did you mean 'category_accuracy'"),
        ({"best": "beauty", "answer_rows": 4}, "there are loss, parse_rate, title_exact, .*price_smape_penalised"),
        ({"best": "price_mae"}, "train.answer_rows is 0"),
        ({"best": "price_mae", "answer_rows": 4}, "train.evaluate_every is not set"),
        ({"patience": 2}, "train.evaluate_every is not set"),
        (
            {"patience": 2, "evaluate_every": 4, "save_every": 6},
            "save_every = 6 a multiple of train.evaluate_every = 4",
        ),
    ],
)
def test_what_could_never_work_is_said_before_training(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        judged_by(recipe_from({"train": settings}), Task(), SPLITS)


@pytest.mark.parametrize("setting", ["answer_rows", "patience"])
def test_a_data_set_without_a_validation_split(setting: str) -> None:
    with pytest.raises(SettingsError, match=f"train.{setting} needs a validation split, and data has only train"):
        judged_by(recipe_from({"train": {setting: 3}}), Task(), ["train"])
    assert judged_by(recipe_from({}), Task(), ["train"]).best == "loss"


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("loss", ("loss", False)),
        ("category_accuracy", ("category_accuracy", True)),
        ("category3_code/accuracy", ("category_accuracy", True)),
        ("full_price/mae", ("price_mae", False)),
        ("price_within_10", ("price_within_10", True)),
    ],
)
def test_the_direction_of_each_figure_is_known(name: str, figure: tuple[str, bool]) -> None:
    assert known_figures(Task())[name] == figure
