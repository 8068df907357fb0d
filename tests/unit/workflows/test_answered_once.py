"""An evaluation answers each row once per image condition; confidences come with the answers that are scored."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.recipe import changed
from phisight.core.settings import EvaluateSettings
from phisight.evaluate import EvalRow, alias, read_rows
from phisight.evaluate.limits.risk_coverage import risk_coverage
from phisight.evaluate.metrics import is_right
from phisight.evaluate.statistics.calibration import fit_calibration
from phisight.export.subject import read_run
from phisight.generate import Request, number_writer
from phisight.generate.confidence import field_confidences
from phisight.generate.scheduler import Scheduler
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.load import load_run, task_of_run
from phisight.workflows.predict import predictor_of
from tests.helpers.trained_run import trained

SPLITS = ("train", "validation", "validation", "test")
SETTINGS = EvaluateSettings(split="test", max_new_tokens=96, batch_size=8, constrained=True, coverage=0.8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 products: 24 of them for validation, as many as a calibration needs, and 12 that are tested."""
    folder = tmp_path_factory.mktemp("products") / "data"
    make(48, folder, seed=0, settings=preset("demo"), workers=1, overwrite=True)
    table = pq.read_table(folder / "metadata.parquet")
    splits = pa.array([SPLITS[row % len(SPLITS)] for row in range(table.num_rows)])
    pq.write_table(table.set_column(table.column_names.index("split"), "split", splits), folder / "metadata.parquet")
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(data, tmp_path_factory.mktemp("runs") / "run", steps=1, evaluate_every=1)


def counted(run: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[Counter[tuple[str, str]], Any]:
    """How often the model was asked, by image condition and images shown, in an evaluation; and its scores."""
    asked: Counter[tuple[str, str]] = Counter()
    condition = ""
    join: Callable[..., Any] = Scheduler.join

    def counting(self: Scheduler, requests: Sequence[Any]) -> Any:
        for one in requests:
            images = [getattr(image, "path", one.index) for image in one.request.images]
            asked[condition, str(images)] += 1
        return join(self, requests)

    def told(name: str, *_: int) -> None:
        nonlocal condition
        condition = name

    monkeypatch.setattr(Scheduler, "join", counting)
    scores = evaluate_run(run, settings=changed(SETTINGS, **settings), base_model_rows=0, progress=told)
    monkeypatch.undo()
    return asked, scores


def by_condition(asked: Counter[tuple[str, str]]) -> dict[str, int]:
    return dict(Counter(name for name, _ in asked))


@pytest.fixture(scope="module")
def evaluated(run: Path) -> tuple[Counter[tuple[str, str]], Any]:
    with pytest.MonkeyPatch.context() as patch:
        return counted(run, patch)


def test_each_row_is_answered_once_per_condition(evaluated: tuple[Counter[tuple[str, str]], Any]) -> None:
    asked, scores = evaluated
    rows = by_condition(asked)
    assert rows.pop("validation") == 24
    assert set(rows.values()) == {12}
    assert {"real", "shuffled", "blank", "mismatched"} <= set(rows)
    assert set(asked.values()) == {1}
    assert {"calibration", "risk_coverage", "prediction_intervals"} <= set(scores)


def test_a_second_evaluation_has_the_confidences_of_the_first(
    run: Path, evaluated: tuple[Counter[tuple[str, str]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, scores = counted(run, monkeypatch)
    assert not asked
    for key in ("calibration", "risk_coverage", "prediction_intervals"):
        assert scores[key] == evaluated[1][key]


def test_a_log_without_confidences_is_not_taken_over(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of an earlier version, whose fingerprint says nothing of confidences."""
    (log,) = (run / "evaluations").rglob("predictions.real.jsonl")
    first, *lines = log.read_text().splitlines()
    assert all("confidence" in json.loads(line) for line in lines)
    old = [{"row": row, "answer": "of an earlier version"} for row in range(len(lines))]
    log.write_text("\n".join([first.replace('evaluation": "', 'evaluation": "0'), *map(json.dumps, old)]) + "\n")
    asked, _ = counted(run, monkeypatch)
    assert by_condition(asked) == {"real": 12}


@pytest.mark.parametrize(("rows", "rest"), [(None, 0), (5, 19)])
def test_rows_of_an_evaluated_validation_split_are_not_answered_again(
    run: Path, monkeypatch: pytest.MonkeyPatch, rows: int | None, rest: int
) -> None:
    asked, scores = counted(run, monkeypatch, split="validation", rows=rows, coverage=None)
    assert set(asked.values()) == {1}
    found = by_condition(asked)
    assert (found["real"], found.get("validation", 0)) == (24 - rest, rest)
    assert all(one["curve"]["rows"] == 24 for one in scores["calibration"].values())


def answered(run: Path, rows: Sequence[EvalRow]) -> list[tuple[int, dict[str, float], Any]]:
    """Index, confidences and fields of the rows whose answer can be read, each asked by itself."""
    recipe = read_run(run)
    task = task_of_run(run, recipe)
    model, processor, _ = load_run(run, None)
    predictor = predictor_of(model, processor, SETTINGS, recipe.train.numbers, task, [recipe.data.path], run=run)
    numbers = number_writer(recipe.train.numbers, task, processor.tokenizer)
    options: dict[str, Any] = {"max_new_tokens": 96, "grammar": predictor.grammar, "numbers": numbers}
    scheduler = Scheduler(model, processor, max_sequences=1, **options)
    found = []
    for one in scheduler.run((row, Request(task.prompt, rows[row].recorded)) for row in range(len(rows))):
        raw = field_confidences(task, one.written, one.pieces, one.log_probabilities)
        values = task.parse(one.text).values
        if raw is not None and values is not None and one.unread is None:
            found.append((one.index, raw, values))
    return found


def test_figures_are_those_of_rows_that_are_asked_by_themselves(
    run: Path, data: Path, evaluated: tuple[Counter[tuple[str, str]], Any]
) -> None:
    task = task_of_run(run, read_run(run))
    scores = evaluated[1]
    validation, tested = (read_rows(data, task, split).rows for split in ("validation", "test"))
    confidence: list[float | None] = [None] * len(tested)
    wrong = [True] * len(tested)
    of_validation, of_tested = answered(run, validation), answered(run, tested)
    for name in task.names:
        right = [is_right(task, name, validation[row].truth[name], values[name]) for row, _, values in of_validation]
        due = fit_calibration(np.array([raw[name] for _, raw, _ in of_validation]), np.array(right))
        found = scores["calibration"][alias(task, name)]
        assert found["curve"]["rows"] == due["curve"]["rows"] == 24
        assert found["curve"]["raw"] == pytest.approx(due["curve"]["raw"], rel=1e-4)
        assert found["curve"]["calibrated"] == pytest.approx(due["curve"]["calibrated"])
        assert found["error_raw"] == pytest.approx(due["error_raw"], rel=1e-4)
        assert found["error"] == pytest.approx(due["error"], rel=1e-4)
    for row, raw, values in of_tested:
        curves = {name: scores["calibration"][alias(task, name)]["curve"] for name in raw}
        confidence[row] = min(
            float(np.interp(raw[name], curves[name]["raw"], curves[name]["calibrated"])) for name in raw
        )
        wrong[row] = not all(is_right(task, name, tested[row].truth[name], values[name]) for name in task.names)
    due = risk_coverage(wrong, confidence, [row.group or row.key for row in tested], seed=read_run(run).seed)
    found = scores["risk_coverage"]
    for point, wanted in zip(found["points"], due["points"], strict=True):
        assert point["error"] == wanted["error"]
        assert point["least_confidence"] == pytest.approx(wanted["least_confidence"], rel=1e-4, abs=1e-9)
    assert found["gain"] == due["gain"]
