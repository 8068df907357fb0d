"""Curves, scatters, bars and figures in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phisight.report import view
from phisight.report.charts import MOST_POINTS, Axis, bars, curves, scatter, thinned
from phisight.report.collect import collect
from phisight.report.format import formatted, number, split_name
from tests.helpers.run_folder import HOSTILE


def test_curves_that_say_nothing_are_left_out_and_colors_are_fixed(copy: Path) -> None:
    lines = [
        {"step": step, "time": 0, "eval/loss": 3 / step, "train/loss": 2 / step, "eval/price_median_ape": 0.1 * step}
        | {"train/flat": 0.0, "train/data_wait": 1 / step}
        for step in (1, 2, 3)
    ]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = {curve["title"]: curve for curve in view.curve_figures([collect(copy)])}
    assert set(drawn) == {"loss", "price median error in %"}
    assert [(line["name"], line["color"]) for line in drawn["loss"]["lines"]] == [("training", 0), ("validation", 1)]
    assert ">30<" in str(drawn["price median error in %"]["svg"]), "percent axes are in percent"


def test_axes() -> None:
    axis = Axis(0, 10, 100, 200)
    assert (axis.pixel(0), axis.pixel(5), axis.pixel(10)) == (100, 150, 200)
    assert axis.ticks() == [0, 2, 4, 6, 8, 10]
    logarithmic = Axis(1, 100, 0, 100, logarithmic=True)
    assert logarithmic.pixel(10) == pytest.approx(50)
    assert logarithmic.ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert Axis(5, 5, 0, 10).ticks() == [5]


def test_figures_of_nothing_and_of_one_point() -> None:
    assert curves({}, "step", "loss") == ""
    assert curves({"a": [(1, float("nan"))]}, "step", "loss") == ""
    assert "<circle" in curves({"a": [(1, 2.0)]}, "step", "loss")
    assert scatter([], "price") == ""
    assert scatter([(1.0, 1.0)], "price").count("<circle") == 1
    assert bars([("0 – 1", None, 0)], "error") == ""


def test_figures_escape_foreign_text() -> None:
    assert HOSTILE not in curves({"a": [(1, 2.0), (2, 3.0)]}, HOSTILE, HOSTILE) + scatter([(1.0, 2.0)], HOSTILE)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    points = [(float(step), float(step)) for step in range(100_000)]
    kept = thinned(points)
    assert len(kept) == MOST_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])


def test_words() -> None:
    assert split_name("price_mae", ["price"]) == ("price", "mae")
    assert split_name("old_price_mae", ["price", "old_price"]) == ("old_price", "mae")
    assert split_name("parse_rate", ["price"]) == ("", "parse_rate")
    assert [number(value) for value in (0, 0.0123, 1.234, 12.34, 1234.5, 2e7)] == [
        "0",
        "0.012",
        "1.23",
        "12.3",
        "1,234",
        "2.00e+07",
    ]
    assert formatted("mae", None) == "–"
    assert formatted("accuracy", 0.1234) == "12.3\u00a0%"
