"""A run whose task has a field of every kind: scored, compared, written, and shown on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from phisight.evaluate import (
    EvalRow,
    PredictionIntervals,
    Predictions,
    against_baselines,
    certificate,
    fit_baselines,
    fit_prediction_intervals,
    read_rows,
    scores_of,
    verdict_of,
    write_predictions,
)
from phisight.generate import Likelihood
from phisight.report import report_json, write_report
from phisight.sample.receipts.receipt_content import TASK, receipt_of
from phisight.sample.receipts.receipt_folder import make_receipts

ROWS = 60


def answered(row: int) -> str:
    """What a model writes about a receipt: right two times out of three, once unreadable, tips made up and missed."""
    fields: dict[str, Any] = receipt_of(0, row).fields()
    if row % 3 == 1:
        other = receipt_of(0, row + 1).fields()
        fields |= {name: other[name] for name in ("day", "items", "pieces", "card", "tip")}
    return "cannot tell" if row % 20 == 7 else TASK.render(fields)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    make_receipts(ROWS, folder / "data", seed=0)
    rows: list[EvalRow] = read_rows(folder / "data", TASK, "train").rows
    numbers = [int(row.key.removeprefix("R-")) for row in rows]
    own = list(range(len(rows)))
    shifted = [(row + 7) % len(rows) for row in own]
    every = {
        "real": Predictions.of(TASK, rows, "real", own, {row: answered(numbers[row]) for row in own}, {}),
        "shuffled": Predictions.of(
            TASK, rows, "shuffled", shifted, {row: answered(numbers[other]) for row, other in enumerate(shifted)}, {}
        ),
    }
    intervals = PredictionIntervals.around(every["real"], fit_prediction_intervals(every["real"], 0.8))
    out = folder / "run"
    write_predictions(out, list(every.values()), intervals=intervals)
    scores = scores_of(every, resamples=50)  # type: ignore[arg-type]
    scores["prediction_intervals"] = intervals.scores(every["real"])
    truths = [row.truth for row in rows]
    features = np.random.default_rng(0).normal(size=(len(rows), 4))
    scores["baselines"] = against_baselines(every["real"], fit_baselines(TASK, truths, truths, features, features))
    chances = {
        mode: {row: Likelihood(-1.0 - 2 * (mode != "real") - 0.01 * row, 9, "") for row in own} for mode in every
    }
    scores["grounding"] = certificate(every, chances, one_grid=True)  # type: ignore[arg-type]
    scores["verdict"] = verdict_of(scores)
    (out / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    return out


def test_every_field_is_scored_and_compared(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    assert list(scores["aliases"]) == TASK.names
    for name in TASK.names:
        assert scores["grounding"]["fields"]["shuffled"][name]["worse"] or name in ("shop", "note", "total")
    assert 0 < scores["day_exact"] < 1
    assert 0 < scores["items_entry_f1"] < 1
    assert scores["card_balanced_accuracy"] == pytest.approx(scores["card_accuracy"], abs=0.2)
    assert scores["tip_invented"] > 0
    assert scores["tip_missed"] > 0
    assert scores["counts"]["tip_invented"] + scores["counts"]["tip_missed"] == scores["rows"]
    assert scores["counts"]["tip_mae_penalized"] == scores["counts"]["tip_missed"]
    assert set(scores["baselines"]["constant"]["model_against"]) == set(TASK.names)
    assert set(scores["baselines"]["nearest neighbor"]["model_against"]) == set(TASK.names)
    assert {"day", "pieces", "total", "card", "shop"} <= set(scores["baselines"]["ridge"]["model_against"])
    assert scores["grounding"]["conclusion"] == "yes"


def test_predictions_hold_typed_values(run: Path) -> None:
    table = pq.read_table(run / "predictions.parquet")
    types = {field.name: str(field.type).replace("element", "item") for field in table.schema.field("truth").type}
    assert types == {
        "shop": "string", "day": "date32[day]", "items": "list<item: string>", "pieces": "int64", "total": "double",
        "tip": "double", "card": "bool", "note": "string",
    }  # fmt: skip
    lines = [line for line in table.to_pylist() if line["images"] == "real"]
    assert any(line["truth"]["tip"] is None for line in lines)
    for line in lines:
        assert TASK.render(line["truth"]) == line["expected"]
        assert line["predicted"] is None or TASK.render(line["predicted"]) == line["answer"]


def test_the_page_shows_every_kind(run: Path) -> None:
    page = write_report([run]).read_text(encoding="utf-8")
    assert "</html>" in page
    for text in ("entries right (F1)", "year, month, day right", "invented", "missed", "right, balanced"):
        assert text in page
    (shown,) = report_json([run])["runs"]
    assert shown["scores"]["tip_missed"] is not None
