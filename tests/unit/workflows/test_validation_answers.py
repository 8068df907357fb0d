"""Answers on the validation split during training: the figures of an evaluation, in every tracker's terms."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SettingsError
from phisight.core.recipe import changed, recipe_from
from phisight.core.task import Task
from phisight.export.subject import read_run
from phisight.report.collect import collect
from phisight.track import EXAMPLES, PAIRS, read_metrics, read_steps
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.validate import judged_by
from tests.helpers.trained_run import trained

SPLITS = ["train", "validation"]


def test_figures_are_those_of_an_evaluation(tiny_run: Path) -> None:
    """Of the best checkpoint, asked again by ``phisight evaluate`` about the same rows."""
    curves = read_metrics(tiny_run)
    best = json.loads((tiny_run / "summary.json").read_text())["summary"]["best_step"]
    during = {name[5:]: dict(points)[best] for name, points in curves.items() if name.startswith("eval/")}
    settings = changed(recipe_from({}).evaluate, split="validation", rows=4, max_new_tokens=24, batch_size=4)
    scores = evaluate_run(tiny_run, settings=settings)
    loss = during.pop("loss")
    assert loss > 0
    assert {"parse_rate", "title_edit_similarity", "category_accuracy", "price_mae_penalized"} <= during.keys()
    assert during == {name: pytest.approx(scores[name]) for name in during}


def test_each_evaluation_leaves_examples_and_pairs(tiny_run: Path) -> None:
    examples, pairs = read_steps(tiny_run / EXAMPLES), read_steps(tiny_run / PAIRS)
    assert [line["step"] for line in examples] == [0, 2, 4]
    for line in examples:
        assert len(line["rows"]) == 4
        assert all(row["truth"].startswith("Product: ") and row["answer"] for row in line["rows"])
        assert all((tiny_run / row["image"]).stat().st_size > 500 for row in line["rows"])
    assert [row["key"] for row in examples[0]["rows"]] == [row["key"] for row in examples[1]["rows"]]
    assert {(line["step"], line["field"]) for line in pairs} >= {(step, "category") for step in (0, 2, 4)}
    assert collect(tiny_run).steps == [0, 2, 4]


def test_the_first_answers_are_those_before_training(tiny_run: Path, tmp_path: Path) -> None:
    """The same as ``phisight evaluate`` gets from the model before training, number head or not."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    settings = changed(read_run(run).evaluate, rows=4, batch_size=4)
    before = evaluate_run(run, settings=settings, base_model_rows=4)["base_model"]
    lines = [
        json.loads(line)
        for line in (run / "evaluations" / "validation-4-rows" / "predictions.base_model.jsonl")
        .read_text()
        .splitlines()
    ]
    given = sorted(line["answer"] for line in lines if "answer" in line)
    first = read_steps(run / EXAMPLES)[0]
    assert sorted(row["answer"] for row in first["rows"]) == given
    assert read_run(run).train.numbers == "head"
    curves = read_metrics(run)
    for name in ("parse_rate", "title_edit_similarity"):
        step, value = curves[f"eval/{name}"][0]
        assert step == 0
        assert value == pytest.approx(before[name])


def test_answers_do_not_change_what_is_learned(products: Path, tmp_path: Path) -> None:
    """With adapters, bfloat16 and stored features: answers are from the pixels all the same."""
    settings: dict[str, Any] = {"method": "lora", "steps": 2, "evaluate_every": 1, "bf16": True}
    asked = trained(products, tmp_path / "asked", answer_rows=3, **settings)
    plain = trained(products, tmp_path / "plain", **settings)
    for name in ("train/loss", "eval/loss"):
        assert read_metrics(asked)[name] == read_metrics(plain)[name]
    assert "eval/parse_rate" in read_metrics(asked)
    assert "eval/parse_rate" not in read_metrics(plain)
    assert any((tmp_path / "asked" / "features").glob("*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best": "category_acuracy", "answer_rows": 4}, "did you mean 'category_accuracy'"),
        ({"best": "beauty", "answer_rows": 4}, "known are loss, parse_rate, title_exact, .*price_smape_penalized"),
        ({"best": "price_mae", "answer_rows": 4}, "over the answered rows alone.*choose price_mae_penalized"),
        ({"best": "full_price/r2", "answer_rows": 4}, "choose a figure that ends in _penalized"),
        ({"best": "price_mae_penalized"}, "train.answer_rows is 0"),
        ({"best": "price_mae_penalized", "answer_rows": 4}, "train.evaluate_every is not set"),
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
        ("full_price/mae_penalized", ("price_mae_penalized", False)),
        ("price_mae_penalised", ("price_mae_penalized", False)),
        ("price_within_10", ("price_within_10", True)),
    ],
)
def test_the_direction_of_each_figure_is_known(name: str, figure: tuple[str, bool]) -> None:
    settings = {"best": name, "answer_rows": 4, "evaluate_every": 2}
    chosen = judged_by(recipe_from({"train": settings}), Task(), SPLITS)
    assert (chosen.best, chosen.higher_is_better) == figure
