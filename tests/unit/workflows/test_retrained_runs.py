"""A run whose model is replaced: figures of the earlier one stand in no card, task file, report or export."""

import json
import shutil
from pathlib import Path

import pytest

from phisight.core.errors import ImageCheckError
from phisight.core.recipe import changed
from phisight.core.run_folder import weights_fingerprint
from phisight.export.subject import read_run
from phisight.report import write_report
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.export import export_model
from phisight.workflows.train import train

RESULTS = ("scores.json", "predictions.parquet", "predictions.real.jsonl", "evaluations")


@pytest.fixture(scope="module")
def evaluated(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with figures of its own split and of a sample, intervals and a report."""
    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("evaluated") / "run"))
    config = (run / "config.yaml").read_text().replace(str(tiny_run), str(run))
    (run / "config.yaml").write_text(config.replace("coverage: null", "coverage: 0.8"))
    settings = read_run(run).evaluate
    evaluate_run(run, settings=changed(settings, constrained=True, max_new_tokens=96), base_model_rows=0)
    evaluate_run(run, settings=changed(settings, rows=3), base_model_rows=0)
    write_report([run])
    return run


@pytest.fixture
def run(evaluated: Path, tmp_path: Path) -> Path:
    """A copy: where it lies does not matter to what its figures are of."""
    copy = Path(shutil.copytree(evaluated, tmp_path / "run"))
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace(str(evaluated), str(copy)))
    return copy


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text()


def tells_no_figures(run: Path, out: Path) -> None:
    """Neither beside the best checkpoint nor in an export of it."""
    export_model(run, out, rows=0)
    for folder in (run / "best", out):
        card, task = card_of(folder), json.loads((folder / "task.json").read_text())
        assert "Not evaluated yet" in card
        assert "Not checked" in card
        assert "95 % intervals" not in card
        assert not task["calibration"]
        assert not task["intervals"]


def test_a_copied_run_keeps_its_figures(run: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "out", rows=0)
    for folder in (run / "best", tmp_path / "out"):
        assert "On 8 rows" in card_of(folder)
    facts = json.loads((run / "scores.json").read_text())["evaluation"]
    assert facts["fingerprint"] == weights_fingerprint(run / "best")
    page = write_report([run]).read_text()
    assert "earlier model" not in page


def test_a_run_begun_anew_has_none_of_the_results(run: Path, tmp_path: Path) -> None:
    recipe = read_run(run)
    assert all((run / name).exists() for name in (*RESULTS, "report.html"))
    train(recipe.model_copy(update={"seed": 5}), overwrite=True)
    assert not [name for name in (*RESULTS, "report.html") if (run / name).exists()]
    tells_no_figures(run, tmp_path / "out")


def test_a_longer_run_has_figures_of_the_shorter_one_that_count_for_nobody(run: Path, tmp_path: Path) -> None:
    train(read_run(run), resume=True, more_steps=4)
    assert (run / "scores.json").is_file(), "they are replaced by the next evaluation, not deleted"
    tells_no_figures(run, tmp_path / "out")
    for folder in (run, run / "evaluations" / "validation-3-rows"):
        page = write_report([folder]).read_text()
        assert "its figures are of an earlier model in this folder" in page
        assert "Price" not in page.split("its figures are of")[0]
    evaluate_run(run, base_model_rows=0)
    assert "On 8 rows" in card_of(run / "best")
    assert "earlier model" not in write_report([run]).read_text()


def test_a_start_that_fails_deletes_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*_: object) -> None:
        raise ImageCheckError("the image does not change the loss")

    monkeypatch.setattr("phisight.workflows.train.check_images", blind)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(ImageCheckError):
        train(read_run(run), overwrite=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_training_beside_results_of_a_model_that_is_no_run_deletes_none(
    tiny_run: Path, run: Path, tmp_path: Path
) -> None:
    """They are nobody's run, so that nothing asks before; but they are not those of the new model."""
    folder = tmp_path / "results"
    folder.mkdir()
    for name in ("scores.json", "predictions.parquet"):
        shutil.copy(run / name, folder / name)
    train(read_run(tiny_run).model_copy(update={"out": folder, "seed": 7}))
    assert (folder / "scores.json").is_file()
    assert "Not evaluated yet" in card_of(folder / "best")
