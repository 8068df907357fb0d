"""The certificate says yes for a model that looks and no for one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import EvaluationError
from phisight.core.task import Task
from phisight.evaluate import (
    Images,
    certificate,
    compare_predictions,
    evaluate,
    figures,
    likelihoods,
    teacher_forced,
    verdict_of,
)
from tests.helpers.shop import answer_of, blind, make_rows, predictor, seeing

SAME_SIZE: tuple[Images, ...] = ("real", "shuffled", "blank", "mismatched")


def certified(folder: Path, answer: Callable[[int, int, int], str], count: int = 24) -> dict[str, Any]:
    rows = make_rows(folder, count)
    every = {mode: evaluate(predictor(answer), rows, Task(), images=mode) for mode in SAME_SIZE}
    seen = {mode: likelihoods(predictor(answer), predictions) for mode, predictions in every.items()}
    found = certificate(every, seen, one_grid=True)
    json.dumps(found, allow_nan=False)
    return found


def test_a_model_that_looks(tmp_path: Path) -> None:
    found = certified(tmp_path, seeing)
    assert found["uses_image"] is True
    assert found["conclusion"] == "yes"
    assert found["line"].startswith("uses the image: yes (shown another product's image, answers become worse: title")
    assert "Wilcoxon" not in found["line"]
    assert any("Wilcoxon" in line for line in found["tests"])
    assert found["log_likelihood"]["shuffled"]["p_value"] < 1e-4
    assert found["log_likelihood"]["shuffled"]["interval"][0] > 0
    assert found["metrics"]["shuffled"]["title_exact"]["difference"] == 1.0
    assert found["metrics"]["mismatched"]["category_accuracy"]["right"] == 0.0
    assert found["metrics"]["blank"]["price_mae_penalized"]["right"] == pytest.approx(
        sum(max(price, abs(price - 21.5)) for price in range(10, 34)) / 24
    )


def test_a_model_that_does_not_look(tmp_path: Path) -> None:
    found = certified(tmp_path, blind)
    assert found["uses_image"] is False
    assert found["line"].startswith("uses the image: no")
    assert found["log_likelihood"]["shuffled"]["drop"] == 0.0
    assert found["log_likelihood"]["shuffled"]["p_value"] == 1.0


def test_a_blank_that_confuses_is_not_seeing(tmp_path: Path) -> None:
    def confused(red: int, green: int, blue: int) -> str:
        return "nothing to see" if (red, green, blue) == (127, 127, 127) else answer_of(3)

    found = certified(tmp_path, confused)
    assert found["log_likelihood"]["blank"]["p_value"] < 1e-3
    assert found["uses_image"] is False


def test_few_rows_cannot_tell(tmp_path: Path) -> None:
    found = certified(tmp_path, seeing, count=5)
    assert found["uses_image"] is None
    assert "too few products to tell (5; at least 10 are needed)" in found["line"]


def test_many_photos_of_few_products_cannot_tell_either(tmp_path: Path) -> None:
    rows = [replace(row, group=f"G{number % 9}") for number, row in enumerate(make_rows(tmp_path, 36))]
    every = {mode: evaluate(predictor(seeing), rows, Task(), images=mode) for mode in SAME_SIZE}
    seen = {mode: likelihoods(predictor(seeing), predictions) for mode, predictions in every.items()}
    found = certificate(every, seen, one_grid=True)
    assert (found["conclusion"], found["uses_image"]) == ("too few", None)
    assert (found["rows"], found["groups"]) == (36, 9)


def test_the_same_sample_of_rows_with_all_images(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 20)
    real, shuffled = (evaluate(predictor(), rows, Task(), images=mode) for mode in ("real", "shuffled"))
    seen = [likelihoods(predictor(), one, limit=6, seed=1) for one in (real, shuffled)]
    assert seen[0].keys() == seen[1].keys()
    assert len(seen[0]) == 6


def test_a_broken_image_has_no_likelihood(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 4)
    rows[2].image.unlink()
    assert sorted(likelihoods(predictor(), evaluate(predictor(), rows, Task()))) == [0, 1, 3]


def test_the_certificate_needs_shuffled_images(tmp_path: Path) -> None:
    real = evaluate(predictor(), make_rows(tmp_path, 3), Task())
    with pytest.raises(EvaluationError, match="shuffled"):
        certificate({"real": real}, {"real": likelihoods(predictor(), real)})


def test_teacher_forcing_flatters_a_model_that_answers_wrong(tmp_path: Path) -> None:
    """Wrong in one letter early on: the answer is wrong, the forced text only there."""
    rows = make_rows(tmp_path, 6)
    real = evaluate(predictor(lambda *_: "Product: Thong 1, Category: BAGS, Full Price: 11.0"), rows, Task())
    forced = teacher_forced(real, likelihoods(predictor(seeing), real))
    assert figures(real, resamples=0)["title_exact"] == 0.0
    assert figures(forced, resamples=0)["title_exact"] == 1.0


def test_teacher_forcing_of_a_sample(tmp_path: Path) -> None:
    real = evaluate(predictor(seeing), make_rows(tmp_path, 12), Task())
    found = likelihoods(predictor(seeing), real, limit=5)
    forced = teacher_forced(real, found)
    assert [row.key for row in forced.rows] == [real.rows[row].key for row in sorted(found)]
    assert figures(forced, resamples=0)["title_exact"] == 1.0


def test_before_and_after(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 16)
    before, after = (evaluate(predictor(answer), rows, Task()) for answer in (blind, seeing))
    change = compare_predictions(after, before)
    assert change["title_exact"].better is True
    assert compare_predictions(before, after)["title_exact"].better is False
    assert compare_predictions(after, after)["title_exact"].better is None
    with pytest.raises(EvaluationError, match="not the same"):
        compare_predictions(after, evaluate(predictor(), rows[:-1], Task()))


def test_the_verdict_names_what_was_not_checked() -> None:
    found = verdict_of({"aliases": {"full_price": "price"}, "parse_rate": 0.75})
    assert found["uses_image"] is None
    assert found["beats_baselines"] == {"price": None}
    assert found["lines"] == [
        "uses the image: not checked",
        "price: not compared with any baseline",
        "25.0 % of the answers could not be read and count as wrong",
    ]
