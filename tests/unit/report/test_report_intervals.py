"""Intervals on the page: the promise, the band, each row's own; and runs from before there were any."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq

from phisight.report import write_report
from phisight.report.charts import scatter
from phisight.report.collect import collect
from phisight.report.gallery import card_lines
from phisight.report.view import interval_line
from tests.helpers.run_folder import make_run


def corners(drawn: str) -> list[tuple[float, float]]:
    """Corners of the band."""
    found = re.search(r'<polygon class="band" points="([^"]*)"', drawn)
    assert found
    return [(float(pair.split(",")[0]), float(pair.split(",")[1])) for pair in found[1].split()]


def test_the_page_says_what_the_intervals_promise_and_hold(tmp_path: Path) -> None:
    run = make_run(tmp_path, 30)
    page = write_report([run]).read_text()
    one = json.loads((run / "scores.json").read_text())["prediction_intervals"]["price"]
    line = interval_line(collect(run), "price")
    assert line in page
    assert "so that 80.0\u00a0% of the true values lie at most" in line
    assert f"{100 * one['coverage']:.1f}" in line
    assert '<polygon class="band"' in page


def test_each_row_shows_its_interval(tmp_path: Path) -> None:
    run = collect(make_run(tmp_path, 30))
    assert run.task is not None
    lines = {line["field"]: line for shown in run.shown if shown.predicted for line in card_lines(run.task, shown)}
    assert re.fullmatch(r"[\d.,]+ to [\d.,]+", lines["full_price"]["ends"])
    assert lines["title"]["ends"] == ""


def test_the_band_lies_around_the_diagonal() -> None:
    pairs = [(10.0, 12.0), (1000.0, 900.0)]
    band = corners(scatter(pairs, "price", (True, 0.5)))
    lower, upper = band[: len(band) // 2], band[len(band) // 2 :][::-1]
    assert len(lower) == len(upper)
    assert all(low[1] > high[1] for low, high in zip(lower, upper, strict=True)), "pixels count downwards"
    wider = corners(scatter(pairs, "price", (True, 1.0)))
    assert wider[20][1] > band[20][1]
    plain = corners(scatter([(-5.0, 0.0), (5.0, 1.0)], "change", (False, 2.0)))
    assert all(abs(value) < 1000 for corner in plain for value in corner)
    assert "band" not in scatter(pairs, "price")


def test_why_there_are_none(tmp_path: Path) -> None:
    run = make_run(tmp_path, 12)
    scores = json.loads((run / "scores.json").read_text())
    del scores["prediction_intervals"]
    scores["not_checked"] = {"prediction_intervals": "2 rows are too few for intervals of 80%"}
    (run / "scores.json").write_text(json.dumps(scores))
    assert "no intervals: 2 rows are too few for intervals of 80%." in write_report([run]).read_text()


def test_a_run_from_before_there_were_intervals(tmp_path: Path) -> None:
    run = make_run(tmp_path, 12)
    path = run / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["lower", "upper"]), path)
    scores = json.loads((run / "scores.json").read_text())
    del scores["prediction_intervals"]
    (run / "scores.json").write_text(json.dumps(scores))
    page = write_report([run]).read_text()
    assert 'class="band"' not in page
    assert "the shaded band" not in page


def test_what_a_confidence_is_worth(tmp_path: Path) -> None:
    run = make_run(tmp_path, 12)
    assert "What a confidence is worth" not in write_report([run]).read_text()
    scores = json.loads((run / "scores.json").read_text())
    table = [
        {"low": 0.1, "high": 0.2, "rows": 7, "confidence": 0.154, "right": 1 / 7},
        {"low": 0.9, "high": 1.0, "rows": 41, "confidence": 0.9712, "right": 40 / 41},
    ]
    scores["calibration"] = {"price": {"table": table}, "title": {"table": table[1:]}}
    (run / "scores.json").write_text(json.dumps(scores))
    rows = re.findall(r"<tr[^>]*><th>([^<]*)</th><td>(\d[^<]*)</td>(.*?)</tr>", write_report([run]).read_text())
    found = [(field, tenth, *re.findall(r">([^<]+)</td>", cells)) for field, tenth, cells in rows if "%" in tenth]
    assert found == [
        ("price", "10% to 20%", "7", "15.4%", "14.3%"),
        ("", "90% to 100%", "41", "97.1%", "97.6%"),
        ("title", "90% to 100%", "41", "97.1%", "97.6%"),
    ]
