"""From a trained run of each kind to typed fields in a process that knows the export alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import CheckpointError, RunError
from phisight.core.recipe import changed
from phisight.data.dataset.folder import DatasetFolder
from phisight.export.subject import read_run
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.export import export_model
from phisight.workflows.extract import load_extractor
from phisight.workflows.load import load_run
from tests.helpers.trained_run import trained

pytestmark = pytest.mark.usefixtures("forked_exports")

KINDS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora": {"method": "lora"},
    "dora": {"method": "dora"},
    "qlora": {"method": "qlora"},
    "projector": {"method": "projector"},
    "top layers": {"method": "lora", "from_layer": 2},
    "number head": {"method": "lora", "numbers": "head"},
    "expected numbers": {"method": "full", "numbers": "expected"},
    "several images": {"method": "lora", "images": 2},
    "bfloat16": {"method": "lora", "dtype": "bfloat16"},
}
READ = """
import json, sys, phisight
asked = json.load(sys.stdin)
for name in asked["models"]:
    model = phisight.load(name)
    answer = model.extract(*asked["images"])
    print(json.dumps([answer.text, dict(answer), answer.confidence, answer.interval, answer.error]))
"""


@pytest.fixture(scope="module")
def runs(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    settings: dict[str, Any] = {"steps": 3, "learning_rate": 3e-2, "evaluate_every": None, "numbers": "text"}
    made = {}
    for name, kind in KINDS.items():
        if name == "qlora" and not _has_bitsandbytes():
            continue
        made[name] = trained(products, folder / name, model=str(base), **{**settings, **kind})
    return made


def _has_bitsandbytes() -> bool:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        return False
    return True


def images_of(products: Path, count: int) -> list[str]:
    data = DatasetFolder.open(products)
    return [str(data.image_path(row)) for row in data.rows("validation")[:count]]


def in_a_fresh_process(models: list[Path], images: list[str], **environment: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps({"models": [str(model) for model in models], "images": images}),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def answer_of(name: Path, images: list[str]) -> list[Any]:
    answer = load_extractor(name).extract(*images)
    fields = json.loads(json.dumps([dict(answer), answer.confidence, answer.interval]))
    return [answer.text, *fields, answer.error]


def test_every_kind_answers_from_its_export_as_the_run_does(
    runs: dict[str, Path], products: Path, tmp_path: Path
) -> None:
    images = images_of(products, 2)
    exports = {name: export_model(run, tmp_path / name, rows=0).folder for name, run in runs.items()}
    expected = [answer_of(run, images) for run in runs.values()]
    for kept in [*runs.values()]:  # the exports need nothing of them
        kept.rename(kept.with_name(f"{kept.name} away"))
    try:
        found = in_a_fresh_process(list(exports.values()), images)
    finally:
        for kept in runs.values():
            kept.with_name(f"{kept.name} away").rename(kept)
    for name, mine, theirs in zip(runs, expected, found, strict=True):
        assert [mine[0], mine[1], mine[4]] == [theirs[0], theirs[1], theirs[4]], name
        assert theirs[2] == pytest.approx(mine[2]), name
    assert json.loads((exports["several images"] / "task.json").read_text())["images"] == 2
    assert json.loads((exports["number head"] / "task.json").read_text())["numbers"] == "head"


def test_every_best_folder_tells_what_it_is(runs: dict[str, Path]) -> None:
    for name, run in runs.items():
        card = (run / "best" / "README.md").read_text()
        assert "More Information Needed" not in card, name
        assert f"Method: {KINDS[name]['method']}" in card
        task = json.loads((run / "best" / "task.json").read_text())
        assert task["numbers"] == KINDS[name].get("numbers", "text")
        assert set(task["categories"]) == {"category3_code"}
        low, high = task["ranges"]["full_price"]
        assert 0 < low < high


def test_a_constrained_run_stays_constrained_without_its_data(base: Path, products: Path, tmp_path: Path) -> None:
    """Categories and numbers that answers are held to go with the export."""
    data = tmp_path / "data"
    shutil.copytree(products, data)
    run = trained(data, tmp_path / "run", model=str(base), method="lora", steps=2, numbers="text", evaluate_every=None)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        config.replace("constrained: false", "constrained: true").replace("max_new_tokens: 24", "max_new_tokens: 90")
    )
    assert read_run(run).evaluate.constrained
    images = images_of(data, 1)
    kept = tmp_path / "image.jpg"
    shutil.copy(images[0], kept)
    expected = answer_of(run, [str(kept)])
    export_model(run, tmp_path / "export", rows=0)
    shutil.rmtree(data)
    ((text, fields, confidence, *_),) = in_a_fresh_process([tmp_path / "export"], [str(kept)])
    assert (text, fields) == tuple(expected[:2])
    assert confidence == pytest.approx(expected[2])
    known = json.loads((tmp_path / "export" / "task.json").read_text())["categories"]["category3_code"]
    assert expected[1]["category3_code"] in known


def moved_run(base: Path, products: Path, folder: Path) -> Path:
    """A LoRA run with base and data set beside it, moved with both to another folder after training."""
    first = folder / "first"
    shutil.copytree(products, first / "data")
    shutil.copytree(base, first / "model")
    trained(
        first / "data", first / "run", model=str(first / "model"), method="lora", steps=2, learning_rate=3e-2,
        evaluate_every=None,
    )  # fmt: skip
    first.rename(folder / "second")
    return folder / "second" / "run"


def test_a_moved_run_does_everything(base: Path, products: Path, tmp_path: Path) -> None:
    run = moved_run(base, products, tmp_path)
    images = images_of(products, 1)
    before = answer_of(run, images)
    settings = changed(read_run(run).evaluate, max_new_tokens=8)
    assert evaluate_run(run, settings=settings, base_model_rows=2)["rows"] == 8
    assert (run / "scores.json").is_file(), "its own data set, at another place"
    assert "Not evaluated yet" not in (run / "best" / "README.md").read_text()
    assert answer_of(run, images)[:2] == before[:2]
    assert answer_of(run / "best", images)[:2] == before[:2]
    done = export_model(run, tmp_path / "merged", rows=1)
    assert "drawn" not in done.compared
    adapters = export_model(run, tmp_path / "second" / "adapters", adapter=True).folder
    named = json.loads((adapters / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(tmp_path / "second" / "model")
    assert answer_of(adapters, images)[:2] == before[:2]
    (tmp_path / "second").rename(tmp_path / "third")
    assert answer_of(tmp_path / "third" / "adapters", images)[:2] == before[:2]


@pytest.mark.parametrize("lost", ["model", "data", "both"])
def test_a_moved_run_without_its_parts_names_them(lost: str, base: Path, products: Path, tmp_path: Path) -> None:
    run = moved_run(base, products, tmp_path)
    for part in ("model", "data") if lost == "both" else (lost,):
        shutil.rmtree(run.parent / part)
    image = images_of(products, 1)
    if lost == "data":
        assert answer_of(run, image)[0]
        assert "the images were drawn" in export_model(run, tmp_path / "out", rows=1).compared
        with pytest.raises(RunError, match=r"made from the data set .* which is not at .* or .*; copy it"):
            evaluate_run(run)
        return
    for act in (
        lambda: load_run(run),
        lambda: load_extractor(run),
        lambda: export_model(run, tmp_path / "out", rows=1),
        lambda: evaluate_run(run, data=products),
    ):
        with pytest.raises((RunError, CheckpointError), match=r"made from the base model .* which is not at") as found:
            act()
        assert "\n" not in str(found.value)
    assert not (tmp_path / "out").exists()


def test_the_commands_of_a_newcomer(runs: dict[str, Path], products: Path, tmp_path: Path) -> None:
    """export and predict as they are typed, on a run folder and on ``best`` in it."""
    out = tmp_path / "export"
    done = CliRunner().invoke(app, ["export", str(runs["lora"] / "best"), "--out", str(out), "--rows", "1"])
    assert done.exit_code == 0, done.output
    assert "Trained on" in (out / "README.md").read_text()
    assert "Not known" not in (out / "README.md").read_text()
    table = tmp_path / "fields.csv"
    done = CliRunner().invoke(app, ["predict", str(out), *images_of(products, 3), "--out", str(table)])
    assert done.exit_code == 0, done.output
    assert len(table.read_text().splitlines()) == 4
