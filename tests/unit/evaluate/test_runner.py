"""Asking the model about every row, with the images asked for, and going on after a kill."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from phisight.core.errors import EvaluationError
from phisight.core.task import Task
from phisight.evaluate import Images, Predictions, evaluate, scores_of, write_predictions
from phisight.generate import Predictor
from tests.helpers.fake_model import FakeModel, FakeProcessor
from tests.helpers.shop import answer_of, blind, make_rows, predictor, seeing


def test_a_model_that_sees_is_right_with_its_own_images_only(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 12)
    real = evaluate(predictor(), rows, Task())
    assert list(real.answers) == [answer_of(number) for number in range(12)]
    shuffled = evaluate(predictor(), rows, Task(), images="shuffled", seed=1)
    assert shuffled.answers == [answer_of(other) for other in shuffled.shown if other is not None]
    assert not any(given == wanted for given, wanted in zip(shuffled.answers, real.answers, strict=True))
    blank = evaluate(predictor(), rows, Task(), images="blank")
    assert set(blank.answers) == {"nothing to see"}
    assert blank.parse_rate == 0
    assert blank.reason_counts() == {"does not begin with 'Product:'": 12}


def test_scores_of_seeing_and_blind(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 12)
    for answer, expected in ((seeing, 1.0), (blind, 1 / 12)):
        modes: tuple[Images, ...] = ("real", "shuffled")
        every = {mode: evaluate(predictor(answer), rows, Task(), images=mode) for mode in modes}
        scores = scores_of(every, resamples=50)
        assert scores["title_exact"] == pytest.approx(expected)
        assert scores["shuffled"]["title_exact"] == pytest.approx(0.0 if answer is seeing else 1 / 12)
        json.dumps(scores, allow_nan=False)


def test_a_broken_image_costs_its_own_row(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 4)
    rows[1].image.unlink()
    rows[2].image.write_bytes(b"no image")
    found = evaluate(predictor(), rows, Task())
    assert [answer is None for answer in found.answers] == [False, True, True, False]
    assert found.reasons[1] is not None
    assert found.reasons[1].startswith("image: there is no ")
    assert found.reason_counts() == {"image": 2}
    assert found.parse_rate == 0.5


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    evaluate(predictor(batch_size=2), make_rows(tmp_path, 5), Task(), progress=lambda *at: told.append(at))
    assert told[0] == (0, 5)
    assert told[-1] == (5, 5)
    assert told == sorted(told)


class Counting(FakeModel):
    asked = 0

    def generate(self, input_ids: Any, attention_mask: Any, **kwargs: Any) -> Any:
        self.asked += len(input_ids)
        return super().generate(input_ids, attention_mask, **kwargs)


def interrupted(rows: Any, journal: Path) -> None:
    class Failing(Predictor):
        def generations(self, requests: Any, **options: Any) -> Any:
            for place, answer in enumerate(super().generations(requests, **options)):
                if place == 3:
                    raise KeyboardInterrupt
                yield answer

    with pytest.raises(KeyboardInterrupt):
        evaluate(Failing(FakeModel(seeing), FakeProcessor(), batch_size=1), rows, Task(), answer_log=journal)


def test_finished_answers_are_not_asked_for_again(tmp_path: Path) -> None:
    rows, journal = make_rows(tmp_path / "images", 8), tmp_path / "run" / "predictions.real.jsonl"
    interrupted(rows, journal)
    with journal.open("a") as file:
        file.write('{"row": 5, "answ')  # the line a killed process was writing
    model = Counting(seeing)
    found = evaluate(Predictor(model, FakeProcessor()), rows, Task(), answer_log=journal)
    assert model.asked == 5
    assert list(found.answers) == [answer_of(number) for number in range(8)]
    assert len(journal.read_text().splitlines()) == 9


@pytest.mark.parametrize("change", ["identity", "seed", "rows"])
def test_answers_of_another_evaluation_are_not_taken_over(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows, journal = make_rows(tmp_path / "images", 8), tmp_path / "answers.jsonl"
    evaluate(predictor(blind), rows, Task(), images="shuffled", answer_log=journal)
    changed: dict[str, dict[str, Any]] = {"identity": {"identity": "step-20"}, "seed": {"seed": 5}, "rows": {}}
    asked = rows[:-1] if change == "rows" else rows
    with caplog.at_level(logging.INFO):
        found = evaluate(predictor(), asked, Task(), images="shuffled", answer_log=journal, **changed[change])
    assert found.shown[0] is not None
    assert found.answers[0] == answer_of(found.shown[0])
    assert "starting over" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from phisight.core.task import Task
from phisight.evaluate import evaluate
from phisight.generate import Predictor
from tests.helpers.shop import make_rows, seeing
from tests.helpers.fake_model import FakeModel, FakeProcessor

class Killed(FakeModel):
    def generate(self, *args, **kwargs):
        if len(self.calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(*args, **kwargs)

folder = Path(sys.argv[1])
evaluate(Predictor(Killed(seeing), FakeProcessor(), batch_size=3), make_rows(folder / "images", 9), Task(),
         answer_log=folder / "answers.jsonl")
"""


@pytest.mark.process
def test_a_killed_process_loses_no_finished_answer(tmp_path: Path) -> None:
    import os

    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -9
    model = Counting(seeing)
    rows = make_rows(tmp_path / "images", 9)
    found = evaluate(Predictor(model, FakeProcessor()), rows, Task(), answer_log=tmp_path / "answers.jsonl")
    assert model.asked == 3
    assert list(found.answers) == [answer_of(number) for number in range(9)]


def test_no_rows() -> None:
    with pytest.raises(EvaluationError, match="no rows"):
        evaluate(predictor(), [], Task())


def test_one_row_is_enough(tmp_path: Path) -> None:
    scores = scores_of({"real": evaluate(predictor(), make_rows(tmp_path, 1), Task())})
    assert (scores["rows"], scores["price_mae"], scores["price_r2"]) == (1, 0.0, None)
    assert scores["intervals"]["price_mae"] is None
    json.dumps(scores, allow_nan=False)


def test_predictions_parquet(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "images", 10)
    rows[4].image.write_bytes(b"no image")
    every = [evaluate(predictor(), rows, Task(), images=mode) for mode in ("real", "blank")]
    table = pq.read_table(write_predictions(tmp_path / "run", every))
    assert Task.model_validate_json(table.schema.metadata[b"phisight.task"]) == Task()
    lines = table.to_pylist()
    assert [line["images"] for line in lines] == ["real"] * 10 + ["blank"] * 10
    assert lines[3]["truth"] == lines[3]["predicted"] == dict(rows[3].truth)
    assert (lines[3]["expected"], lines[3]["answer"], lines[3]["error"]) == (answer_of(3), answer_of(3), 0.0)
    assert lines[4]["answer"] is lines[4]["predicted"] is lines[4]["thumbnail"] is None
    assert lines[4]["error"] == 1.0
    assert lines[13]["shown"] is None
    assert sum(line["thumbnail"] is not None for line in lines) == 9
    assert lines[0]["thumbnail"].startswith(b"\xff\xd8")


def test_thumbnails_are_of_the_worst_and_a_sample(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "images", 40)
    for wrong in (7, 21):
        rows[wrong].image.write_bytes(rows[wrong + 1].image.read_bytes())
    real = evaluate(predictor(), rows, Task())
    lines = pq.read_table(write_predictions(tmp_path / "run", [real], thumbnails=10)).to_pylist()
    shown = [line["row"] for line in lines if line["thumbnail"]]
    assert len(shown) == 10
    assert sum(line["drawn"] for line in lines) == 8
    assert {7, 21} <= set(shown)


def test_answers_that_equal_a_truth_are_kept_once(tmp_path: Path) -> None:
    """The memory of four kinds of images is then about that of one."""
    rows = make_rows(tmp_path, 8)
    for images in ("real", "shuffled"):
        found = evaluate(predictor(), rows, Task(), images=images)
        for row, shown in enumerate(found.shown):
            assert shown is not None
            assert found.answers[row] is rows[shown].expected
            assert found.parsed[row] is rows[shown].truth


def test_a_number_that_is_written_shorter_than_it_is(tmp_path: Path) -> None:
    """The answer is what was written, not the truth behind it."""
    task = Task(answer="{price}", fields={"price": {"kind": "number", "decimals": 1}})
    row = replace(make_rows(tmp_path, 1)[0], truth={"price": 12.34}, expected="12.3")
    found = Predictions.of(task, [row], "real", [0], {0: "12.3"}, {})
    assert found.predicted("price") == [12.3]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Produit : Écharpe, Catégorie : ÉCHARPES, Prix : 12,50", "does not begin with 'Product:'"),
        ("商品：スカーフ、カテゴリ：帽子、価格：千円", "does not begin with 'Product:'"),
        ("Product: スカーフ, Category: 帽子, Full Price: 千円", "field 'full_price' is no number"),
        ("Product: Écharpe, Category: HATS, Full Price: 12,50 €", "field 'full_price' is no number"),
        ("", "does not begin with 'Product:'"),
    ],
)
def test_answers_in_another_language_are_named(answer: str, reason: str, tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 12)
    found = evaluate(predictor(lambda red, green, blue: answer), rows, Task())
    scores = scores_of({"real": found}, resamples=50)
    assert scores["parse_rate"] == 0
    assert scores["reasons"] == {reason: 12}
    assert scores["category_accuracy"] == 0
    assert scores["price_mae"] is None
    write_predictions(tmp_path / "run", [found])
    written = pq.read_table(tmp_path / "run" / "predictions.parquet")
    assert set(written["answer"].to_pylist()) == {answer}
