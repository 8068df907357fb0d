"""Which folders the report reads: unfinished, damaged, several, evaluations beside the run's own, what programs get."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from phisight.core.errors import RunError
from phisight.report import report_json, write_report
from phisight.report.collect import collect


def test_an_evaluation_beside_the_run_s_own(run: Path, copy: Path) -> None:
    other = copy / "evaluations" / "validation-5-rows"
    other.mkdir(parents=True)
    for name in ("scores.json", "predictions.parquet"):
        shutil.copy(run / name, other / name)
    page = write_report([other]).read_text()
    assert (other / "report.html").is_file()
    assert not (copy / "report.html").exists()
    assert "run, validation-5-rows" in page
    assert "LoRA" in page, "what was trained stands in the run it belongs to"


def test_several_runs_have_a_page_of_their_own(run: Path, copy: Path) -> None:
    path = write_report([copy, run])
    assert path.name == "report-run.html"
    assert path.parent == copy.parent
    path.unlink()


def test_a_run_that_was_not_evaluated(copy: Path) -> None:
    for name in ("scores.json", "predictions.parquet"):
        (copy / name).unlink()
    page = write_report([copy]).read_text()
    assert "this run has not been evaluated; run `phisight evaluate" in page
    assert "Training" in page


def test_scores_without_certificate_and_baselines(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    for name in ("verdict", "grounding", "baselines", "teacher_forced"):
        del scores[name]
    (copy / "scores.json").write_text(json.dumps(scores))
    page = write_report([copy]).read_text()
    assert "was not tested" in page
    assert "Neither a grounding certificate nor baselines were computed" in page


def test_several_runs(run: Path, copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    scores["title_exact"] = 0.999
    (copy / "scores.json").write_text(json.dumps(scores))
    out = copy.parent / "both.html"
    page = write_report([run, copy], out).read_text()
    assert "The runs side by side" in page
    assert re.search(r'best">99\.9', page)
    assert not (copy / "report.html").exists()


def test_what_programs_get(run: Path) -> None:
    values = json.loads(json.dumps(report_json([run])))
    (one,) = values["runs"]
    assert one["scores"] == json.loads((run / "scores.json").read_text())
    assert one["verdict"]["uses_image"] is True
    assert one["curves"]["eval/loss"][0][0] == 20


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scores.json", "{", "is no JSON"),
        ("config.yaml", "a: [", "is no YAML"),
        ("metrics.jsonl", "x\n{}\n", "line 1 is no JSON"),
    ],
)
def test_a_damaged_file_is_named(copy: Path, name: str, text: str, message: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(RunError, match=message):
        write_report([copy])


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        write_report([tmp_path / "gone"])
    with pytest.raises(RunError, match="is no run folder"):
        write_report([tmp_path])
    with pytest.raises(RunError, match="no run folder named"):
        write_report([])


def test_images_outside_the_run_folder_are_not_taken_in(copy: Path) -> None:
    secret = copy.parent / "secret.jpg"
    Image.new("RGB", (8, 8)).save(secret)
    row = {"key": "A", "image": "../secret.jpg", "truth": "T", "answer": "A"}
    (copy / "examples.jsonl").write_text(json.dumps({"step": 1, "time": 0, "rows": [row]}) + "\n")
    assert collect(copy).examples[0].image is None


def test_only_the_worst_and_a_sample_are_kept(run: Path) -> None:
    found = collect(run, images=10)
    assert len(found.shown) <= 10
    assert found.answered == 30
    assert found.shown[0].error == max(shown.error for shown in collect(run).shown)
