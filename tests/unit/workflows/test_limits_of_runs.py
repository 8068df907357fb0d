"""Limits of a run: foreign images and coverage in its scores, ``unfamiliar`` in answers, tables and exports."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.recipe import changed
from phisight.core.run_folder import BEST, FOREIGN_EVALUATED, UNFAMILIAR, weights_fingerprint
from phisight.core.settings import EvaluateSettings
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.foreign_images import kinds_of, read_foreign
from phisight.evaluate.limits.risk_coverage import COVERAGES
from phisight.export.origins import fingerprint_of
from phisight.export.task_file import TaskFile
from phisight.extraction.familiarity import Familiarity
from phisight.sample.foreign.foreign_folder import HELD_OUT
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.export import export_model
from phisight.workflows.extract import load_extractor, predict_into
from tests.helpers.trained_run import trained

HELD: dict[str, Any] = {"max_new_tokens": 72, "constrained": True}
"""Answers of the task's form, whatever the model has learned in four steps."""


@pytest.fixture(scope="module")
def run(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that abstains, evaluated with answers held to the task's form."""
    out = trained(
        products, tmp_path_factory.mktemp("limits") / "run", numbers="text", abstain={"share": 0.2}, evaluate=HELD
    )
    evaluate_run(out, settings=settings(), base_model_rows=0)
    return out


def settings(**changes: Any) -> EvaluateSettings:
    usual = EvaluateSettings(split="validation", batch_size=8, **HELD)
    return changed(usual, **changes)


def test_scores_hold_every_figure(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    foreign = scores["foreign"]
    assert set(foreign["by_kind"]) == set(HELD_OUT)
    assert foreign["images"] == sum(one["of"] for one in foreign["by_kind"].values())
    assert set(kinds_of(read_foreign(run / FOREIGN_EVALUATED).rows)) == set(HELD_OUT)
    for figure in (foreign["invented"], scores["refused"], scores["unfamiliar"]["foreign"]):
        low, high = figure["interval"]
        assert low <= figure["share"] <= high
    assert [point["coverage"] for point in scores["risk_coverage"]["points"]] == list(COVERAGES)
    assert scores["unfamiliar"]["validation_images"] == 8


def test_answers_say_how_unfamiliar_their_image_is(run: Path, products: Path, tmp_path: Path) -> None:
    model, data = load_extractor(run), DatasetFolder.open(products)
    paths = [data.image_path(row) for row in data.rows("train")][:6]
    answers = list(model.extract_many(paths, batch_size=4))
    scores = [answer.unfamiliar for answer in answers]
    assert all(one is not None and one >= 0 for one in scores)
    alone = [model.extract(path).unfamiliar for path in paths]
    assert alone == pytest.approx(scores, rel=1e-3)
    assert model.extract(*paths).unfamiliar == pytest.approx(max(filter(None, scores)), rel=1e-3)
    assert all(answer.confidence for answer in answers if answer.ok)

    done = predict_into(model, [str(path) for path in paths], tmp_path / "out.parquet")
    table = pq.read_table(done.out)
    assert table["unfamiliar"].to_pylist() == pytest.approx(scores, rel=1e-3)
    shown = CliRunner().invoke(app, ["predict", str(run), str(paths[0]), "--json"])
    assert json.loads(shown.stdout)["unfamiliar"] == pytest.approx(scores[0], rel=1e-3)


def test_features_in_place_of_pixels_change_no_answer(run: Path, products: Path, tmp_path: Path) -> None:
    data = DatasetFolder.open(products)
    paths = [data.image_path(row) for row in data.rows("validation")]
    without = shutil.copytree(run, tmp_path / "run")
    (without / BEST / UNFAMILIAR).unlink()
    plain = list(load_extractor(without).extract_many(paths, batch_size=3))
    scored = list(load_extractor(run).extract_many(paths, batch_size=3))
    assert [one.text for one in plain] == [one.text for one in scored]
    assert {one.unfamiliar for one in plain} == {None}
    done = predict_into(load_extractor(without), [str(paths[0])], tmp_path / "out.csv")
    assert "unfamiliar" not in done.out.read_text(encoding="utf-8").splitlines()[0]


def test_an_export_brings_task_and_score_along(run: Path, products: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "export", rows=0)
    file = TaskFile.read(tmp_path / "export")
    assert file is not None
    assert file.task.abstains
    image = next(iter((products / "images").rglob("*.jpg")))
    one, other = (load_extractor(name).extract(image) for name in (run, tmp_path / "export"))
    assert one.unfamiliar == pytest.approx(other.unfamiliar, rel=1e-3)
    null = {"type": "null"}
    assert all(null in one["anyOf"] for one in load_extractor(tmp_path / "export").schema["properties"].values())


def refused_images(predictions: Path) -> set[str]:
    """Images that an evaluation of their own rows gives no value."""
    rows = pq.read_table(predictions, columns=["images", "image", "predicted", "reason"]).to_pylist()
    real = [row for row in rows if row["images"] == "real" and row["reason"] is None]
    return {row["image"] for row in real if all(value is None for value in row["predicted"].values())}


def below_all(folder: Path, threshold: float) -> Familiarity:
    """The score of a run, with another threshold."""
    known = Familiarity.read(folder / UNFAMILIAR)
    assert known is not None
    replace(known, threshold=threshold).write(folder)
    return known


def test_evaluation_prediction_and_export_refuse_the_same_images(run: Path, products: Path, tmp_path: Path) -> None:
    """With a threshold that some of the images exceed; another one in the export (planted here) is noticed."""
    copy, data = shutil.copytree(run, tmp_path / "run"), DatasetFolder.open(products)
    paths = [data.image_path(row) for row in data.rows("test")]
    answers = list(load_extractor(copy).extract_many(paths))
    known = below_all(copy / BEST, 1.0)
    distances = [known.threshold * (answer.unfamiliar or 0.0) for answer in answers]
    ordered = np.sort(distances)
    place = int(np.argmax(np.diff(ordered)))  # the widest gap: rounding moves no image across
    middle = float(ordered[place : place + 2].mean())
    below_all(copy / BEST, middle)
    over = [one > middle for one in distances]

    def refused(model: Path) -> set[str]:
        found = load_extractor(model).extract_many(paths)
        valueless = [answer.is_refused and all(value is None for value in answer.values()) for answer in found]
        return {str(path) for path, one in zip(paths, valueless, strict=True) if one}

    moved = shutil.copytree(products, tmp_path / "other")  # of another data set: its threshold is the run's
    evaluate_run(copy, data=moved, settings=settings(split="test"), base_model_rows=0)
    folder = copy / "evaluations" / "other-test"
    scored = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    evaluated = {image.replace(str(moved), str(products)) for image in refused_images(folder / "predictions.parquet")}
    assert 0 < sum(over) < len(paths)
    assert {str(path) for path, one, answer in zip(paths, over, answers, strict=True) if one and answer.ok} <= evaluated
    assert evaluated == refused(copy)
    assert scored["refused"]["count"] >= len(evaluated)
    export_model(copy, tmp_path / "export", rows=0)
    assert refused(tmp_path / "export") == evaluated
    table = predict_into(load_extractor(tmp_path / "export"), [str(path) for path in paths], tmp_path / "out.parquet")
    rows = pq.read_table(table.out).to_pylist()
    assert [row["unfamiliar"] > 1 for row in rows] == over
    assert all(row["title"] is None and row["title_confidence"] is None for row in rows if row["unfamiliar"] > 1)

    below_all(tmp_path / "export", 1e9)
    assert refused(tmp_path / "export") != evaluated


def test_a_run_that_does_not_abstain_refuses_nothing(products: Path, tmp_path: Path) -> None:
    plain = trained(products, tmp_path / "run", numbers="text")
    evaluate_run(plain, settings=settings(), base_model_rows=0)
    before = pq.read_table(plain / "predictions.parquet")
    image = next(iter((products / "images").rglob("*.jpg")))
    said = load_extractor(plain).extract(image)
    below_all(plain / BEST, 1e-6)
    answer = load_extractor(plain).extract(image)
    assert answer.is_unfamiliar
    assert not answer.is_refused
    assert dict(answer) == dict(said)
    evaluate_run(plain, settings=settings(), base_model_rows=0)
    assert pq.read_table(plain / "predictions.parquet").equals(before)
    assert "refused" not in json.loads((plain / "scores.json").read_text(encoding="utf-8"))


def test_a_second_evaluation_answers_nothing_again(run: Path) -> None:
    before = (run / "predictions.real.jsonl").read_bytes()
    asked: list[tuple[str, int, int]] = []
    evaluate_run(run, settings=settings(), base_model_rows=0, progress=lambda *one: asked.append(one))
    assert (run / "predictions.real.jsonl").read_bytes() == before
    assert all(done == total for name, done, total in asked if name in ("real", "shuffled"))


def test_the_score_s_file_changes_no_fingerprint(run: Path) -> None:
    """Runs that start from this one, and answers that are continued, know it by its weights."""
    folder = run / BEST
    before = fingerprint_of(folder), weights_fingerprint(folder)
    content = (folder / UNFAMILIAR).read_bytes()
    (folder / UNFAMILIAR).unlink()
    without = fingerprint_of(folder), weights_fingerprint(folder)
    (folder / UNFAMILIAR).write_bytes(content)
    assert before == without
