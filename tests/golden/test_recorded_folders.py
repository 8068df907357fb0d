"""Folders that commit f796ce0 wrote open, resume on the recorded curve, answer, evaluate and report.

``f796ce0/`` and what is in it: see record_folders.py. Curves and weights must agree to rounding: processors of one kind
differ in the last bits, too. benchmarks/training_curves.py compares both commits bit by bit on one machine.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from phisight.core.errors import RunError
from phisight.core.migrations import RENAMED, translate
from phisight.data.dataset.folder import DatasetFolder
from phisight.export.subject import read_run
from phisight.report import report_json, write_report
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.extract import load_extractor
from phisight.workflows.train import train
from tests.golden.record_folders import RANKS, curve, weights
from tests.helpers.forked import start
from tests.helpers.one_thread import one_thread
from tests.helpers.ranks import together, train_as

pytestmark = [pytest.mark.process, pytest.mark.slow]

FOLDERS = Path(__file__).parent / "f796ce0"
EXPECTED: dict[str, Any] = json.loads((FOLDERS / "expected.json").read_text(encoding="utf-8"))
DRIFT = 1e-5


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the folders as the working folder, with one thread."""
    shutil.copytree(FOLDERS, tmp_path / "folders")
    monkeypatch.chdir(tmp_path / "folders")
    with one_thread():
        yield tmp_path / "folders"


def differences(now: Any, recorded: Any, where: str = "") -> list[str]:
    """Where two values differ, each with both; numbers may differ by rounding."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        lines = [f"{where}/{key}: in one only" for key in sorted(now.keys() ^ recorded.keys())]
        for key in recorded.keys() & now.keys():
            lines += differences(now[key], recorded[key], where=f"{where}/{key}")
        return lines
    if isinstance(recorded, list) and isinstance(now, list) and len(now) == len(recorded):
        both = enumerate(zip(now, recorded, strict=True))
        return [line for index, two in both for line in differences(*two, where=f"{where}/{index}")]
    near = isinstance(recorded, float) and isinstance(now, float)
    if now == recorded or (near and math.isclose(now, recorded, rel_tol=DRIFT, abs_tol=DRIFT)):
        return []
    return [f"{where}: {recorded!r} was recorded, now {now!r}"]


def without_hashes(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: value for key, value in one.items() if key != "sha256"} for name, one in tensors.items()}


def resume_on_ranks(run: str, ranks: int) -> None:
    codes = together(start, train_as, read_run(Path(run)), ranks, resume=True)
    errors = [path.read_text() for path in Path(f"{run}.errors").glob("*")]
    assert codes == [0] * ranks, errors


def require_recorded_end(name: str) -> None:
    """The run ended with the recorded curve, figures and weights."""
    expected = EXPECTED["resumed"][name]
    assert differences(curve(Path(name)), translate_lines(expected["curve"])) == []
    summary = json.loads(Path(name, "summary.json").read_text(encoding="utf-8"))["summary"]
    recorded = translate("metrics", expected["summary"])
    assert differences({key: summary[key] for key in recorded}, recorded) == []
    best = weights(Path(name) / "best")
    assert differences(without_hashes(best), without_hashes(expected["best"])) == []


def without_sentences(scores: Any) -> Any:
    """Figures and decisions; the sentences that state them may be worded anew."""
    if not isinstance(scores, dict):
        return scores
    return {name: without_sentences(one) for name, one in scores.items() if name not in ("about", "line", "lines")}


def translate_lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [translate("metrics", line) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPECTED["resumed"] if name not in RANKS])
def test_a_stopped_run_resumes_on_its_curve(name: str, folders: Path) -> None:
    train(read_run(Path(name)), resume=True)
    require_recorded_end(name)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("name", RANKS)
def test_a_stopped_run_of_several_ranks_resumes_on_its_curve(name: str, folders: Path) -> None:
    resume_on_ranks(name, RANKS[name])
    require_recorded_end(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED["weights"])
def test_a_run_holds_its_weights_and_answers_as_recorded(name: str, folders: Path) -> None:
    assert weights(Path(name) / "best") == EXPECTED["weights"][name]
    expected = EXPECTED["answers"][name]
    images = [one["image"] for one in expected]
    answers = dict(zip(images, load_extractor(name).extract_many(images), strict=True))
    for one in expected:
        answer = answers[one["image"]]
        reason = answer.error and answer.error.removeprefix("not read: ")
        assert (answer.text, dict(answer) or None, reason) == (one["answer"], one["fields"], one["reason"])


@pytest.mark.parametrize("name", [*EXPECTED["weights"], *EXPECTED["resumed"]])
def test_every_run_is_reported(name: str, folders: Path) -> None:
    """Also one that was stopped and has neither weights nor answers."""
    (shown,) = report_json([Path(name)])["runs"]
    recorded = yaml.safe_load(Path(name, "config.yaml").read_text(encoding="utf-8"))
    assert shown["config"] == translate("config", recorded)
    assert shown["curves"]["train/loss"]
    assert "</html>" in write_report([Path(name)]).read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_evaluated_run_is_evaluated_again(folders: Path) -> None:
    run = Path("evaluated")
    recorded = translate("scores", json.loads((run / "scores.json").read_text(encoding="utf-8")))
    (shown,) = report_json([run])["runs"]
    assert shown["scores"] == recorded
    for path in [*run.glob("predictions.*"), run / "scores.json"]:
        path.unlink()
    now = json.loads(json.dumps(evaluate_run(run)))
    same = [name for name, value in recorded.items() if isinstance(value, float | int) and name in now]
    same = [name for name in same if "within" not in name]  # of all rows since, not of the answered ones
    assert {"parse_rate", "rows"} < set(same)
    assert differences({name: now[name] for name in same}, {name: recorded[name] for name in same}) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "lora", "projector"])
def test_a_run_is_evaluated(name: str, folders: Path) -> None:
    """One that never was, with the base model beside it."""
    run = Path(name)
    settings = read_run(run).evaluate.model_copy(update={"rows": 4, "coverage": None})
    scores = evaluate_run(run, settings=settings, base_model_rows=2)
    assert (scores["rows"], scores["base_model"]["rows"]) == (4, 2)
    assert (run / "evaluations" / "train-4-rows" / "predictions.parquet").is_file()
    assert not (run / "scores.json").is_file()


def test_the_data_set_opens(folders: Path) -> None:
    opened = DatasetFolder.open(Path("data"))
    assert {split: len(opened.rows(split)) for split in opened.split_names} == opened.card.splits
    assert all(opened.image_path(row).is_file() for row in opened.rows())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [("lora", "features"), ("top", "features/trunk")])
def test_stored_features_are_found_again(name: str, folder: str, folders: Path) -> None:
    """Files of an earlier decoder stay and are not read, since its version is part of a file's name; new ones are."""

    def files() -> dict[Path, int]:
        return {path: path.stat().st_ino for path in Path(folder).rglob("*.safetensors")}

    earlier = files()
    assert earlier
    train(read_run(Path(name)).model_copy(update={"out": Path("again")}))
    stored = files()
    assert earlier.items() < stored.items()
    assert differences(curve(Path("again")), translate_lines(curve(Path(name)))) == []
    train(read_run(Path(name)).model_copy(update={"out": Path("once-more")}))
    assert files() == stored
    assert curve(Path("once-more")) == curve(Path("again"))


def test_a_newer_run_is_refused_by_name(folders: Path) -> None:
    config = Path("full", "config.yaml")
    config.write_text("format: phisight-run/2\n" + config.read_text(encoding="utf-8"), encoding="utf-8")
    for read in (read_run, lambda run: report_json([run]), load_extractor):
        with pytest.raises(RunError, match="has the format 'phisight-run/2'"):
            read(Path("full"))


def test_the_table_is_needed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the recorded scores would be shown under a name that nothing reads."""
    assert report_json([Path("evaluated")])["runs"][0]["scores"]["base_model"]["rows"]
    monkeypatch.setitem(RENAMED, "scores", {})
    assert "base_model" not in report_json([Path("evaluated")])["runs"][0]["scores"]
