"""Every file of a trained model and of a checkpoint, damaged in every way: one line that names it, or read."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import phisight
from phisight.train.checkpoint.manifest import MANIFEST, defect
from phisight.train.checkpoint.training_state import Progress, TrainingState
from phisight.workflows.export import export_model
from phisight.workflows.serve import served_model
from tests.helpers.damage import damaged_bytes, damaged_json
from tests.helpers.forked_export import in_this_process
from tests.helpers.refusals import refusal

FOLDERS = Path(__file__).parents[2] / "golden" / "f796ce0"
LOADED = ["adapter_config.json", "adapter_model.safetensors", "processor_config.json", "preprocessor_config.json",
          "tokenizer_config.json", "tokenizer.json", "number_head.safetensors", "chat_template.jinja"]  # fmt: skip


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(FOLDERS, tmp_path_factory.mktemp("runs") / "folders"))


@pytest.fixture
def folders(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(copied)  # their paths are relative
    return copied


def read_all(read: Callable[[], Any], cases: Iterator[tuple[str, bytes]], path: Path) -> int:
    """Read with each damage, then put the file back; how many were refused."""
    whole, refused = path.read_bytes(), 0
    for name, data in cases:
        path.write_bytes(data)
        try:
            message = refusal(read, f"{path.name}, {name}")
        finally:
            path.write_bytes(whole)
        refused += bool(message)
        assert "\n" not in message, f"{name}: {message}"
        assert len(message) < 1500, f"{name}: {message[:200]}"
    return refused


def cases_of(path: Path, every: int) -> Iterator[tuple[str, bytes]]:
    """Some damages of a file, of its values too where it is JSON."""
    data = path.read_bytes()
    yield from damaged_bytes(data, flips=6)
    if path.suffix == ".json" and len(data) < 20_000:
        yield from list(damaged_json(data))[::every]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADED)
def test_a_damaged_model_file_is_named_when_it_is_loaded(folders: Path, name: str) -> None:
    path = folders / "lora" / "best" / name
    phisight.load("lora")
    refused = read_all(lambda: phisight.load("lora"), cases_of(path, 11), path)
    assert refused > 3 or name == "chat_template.jinja"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json"])
def test_a_damaged_base_model_is_named_when_it_is_loaded(folders: Path, name: str) -> None:
    path = folders / "full" / "best" / name
    phisight.load("full")
    assert read_all(lambda: phisight.load("full"), cases_of(path, 11), path) > 1


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """Export, serve and predict; an export is compared in this process, for what is said is tested, not where."""
    monkeypatch.setattr("phisight.workflows.export.observed", in_this_process)
    image, out = next((FOLDERS / "data" / "images").rglob("*.*")), tmp_path / "out"

    def export() -> None:
        shutil.rmtree(out, ignore_errors=True)
        export_model("lora", out, adapter=True)

    return [export, lambda: served_model("lora"), lambda: phisight.load("lora").extract(image)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["config.yaml", "dataset.json", "summary.json", "best/adapter_config.json", "best/number_head.safetensors"]
)
def test_export_serve_and_predict_on_a_damaged_run(folders: Path, commands: list[Callable[[], Any]], name: str) -> None:
    path = folders / "lora" / name
    for command in commands:
        command()
        read_all(command, iter(list(damaged_bytes(path.read_bytes(), flips=2))), path)


@pytest.fixture
def checkpoint(folders: Path, tmp_path: Path) -> Path:
    (newest,) = (folders / "stopped-lora" / "checkpoints").glob("checkpoint-*")
    return Path(shutil.copytree(newest, tmp_path / newest.name))


def test_a_damaged_manifest_makes_the_checkpoint_invalid_or_says_nothing_else(checkpoint: Path) -> None:
    path = checkpoint / MANIFEST
    assert defect(checkpoint) is None
    found = []
    read_all(lambda: found.append(defect(checkpoint)), cases_of(path, 1), path)
    assert len(found) > 100
    assert sum(problem is not None for problem in found) > 50


@pytest.mark.parametrize("name", ["trainer_state.json", "progress.json", "optimizer.pt", "adapter_config.json"])
def test_every_damaged_file_of_a_checkpoint_is_found_by_its_hash(checkpoint: Path, name: str) -> None:
    path = checkpoint / name
    whole = path.read_bytes()
    for _, data in damaged_bytes(whole, flips=20):
        path.write_bytes(data)
        assert name in str(defect(checkpoint))


def test_a_damaged_training_state(checkpoint: Path) -> None:
    state, progress = checkpoint / "trainer_state.json", checkpoint / "progress.json"
    values = json.loads(progress.read_text())
    rows, examples = values["rows"], values["examples_a_step"]
    assert read_all(lambda: TrainingState.read(checkpoint), cases_of(state, 1), state) > 20
    assert read_all(lambda: Progress.read(checkpoint, rows, examples), cases_of(progress, 1), progress) > 20
