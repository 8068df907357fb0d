"""A folder of adapters without a run or a base around it: evaluated, asked, or refused in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import CheckpointError, RunError
from phisight.core.settings import ModelSettings
from phisight.data.dataset.folder import DatasetFolder
from phisight.workflows.extract import load_extractor
from phisight.workflows.load import load_model, load_run
from tests.helpers.trained_run import trained


@pytest.fixture(scope="module")
def run(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "run"
    return trained(products, folder, model=str(base), method="lora", steps=3, learning_rate=3e-2, evaluate_every=None)


@pytest.fixture
def alone(run: Path, base: Path, tmp_path: Path) -> Path:
    """The adapters of the run, the way people hand them on: two files; the base lies beside them under its name."""
    folder = tmp_path / "handed-on"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(run / "best" / name, folder / name)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    return folder


def based_on(folder: Path, name: str | None) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": name}))


def require_weights_of(run: Path, model: Any) -> None:
    """The weights are those of the run, base and adapters merged; the number head is no part of the adapters' files."""
    expected = load_run(run)[0].state_dict()
    different = [name for name, value in model.state_dict().items() if not value.equal(expected[name])]
    assert all("number_head" in name for name in different), different


def test_they_are_loaded_onto_their_base(alone: Path, run: Path) -> None:
    model, processor = load_model(alone, ModelSettings())
    assert processor.image_processor.num_crops == 1
    assert not hasattr(model, "peft_config")
    require_weights_of(run, model)


def test_the_base_may_lie_beside_them(alone: Path, base: Path, run: Path) -> None:
    (alone / "base").symlink_to(base, target_is_directory=True)
    based_on(alone, "base")
    require_weights_of(run, load_model(alone, ModelSettings())[0])


def test_the_command_evaluates_them(alone: Path, products: Path, tmp_path: Path) -> None:
    options = ["--split", "validation", "--rows", "2", "--set", "evaluate.max_new_tokens=8"]
    places = ["--data", str(products), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", str(alone), *places, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["rows"] == 2


def test_they_are_asked_about_a_image(alone: Path, run: Path, products: Path) -> None:
    """In the task of a data set; the adapters of the run with all that lies beside them answer as the run does."""
    opened = DatasetFolder.open(products)
    image = opened.image_path(opened.rows("test")[0])
    expected = load_extractor(run).extract(image)
    assert load_extractor(run / "best").extract(image).text == expected.text
    answer = load_extractor(alone, data=products).extract(image)
    assert answer.text.startswith(expected.text)  # the run asks for fewer tokens
    with pytest.raises(RunError, match="says nowhere what it is asked"):
        load_extractor(alone)


@pytest.mark.parametrize("name", ["/gone/base", None])
def test_a_base_that_is_not_at_hand(name: str | None, alone: Path) -> None:
    based_on(alone, name)
    with pytest.raises(
        CheckpointError, match=r"holds adapters alone.*write the folder or hub name of the base"
    ) as told:
        load_model(alone, ModelSettings())
    assert "\n" not in str(told.value)


def test_adapters_of_another_model(alone: Path) -> None:
    path = alone / "adapter_model.safetensors"
    renamed = {name.replace("qkv_proj", "c_attn"): value for name, value in load_file(path).items()}
    assert any("c_attn" in name for name in renamed)
    save_file(renamed, path)
    with pytest.raises(CheckpointError, match=r"do not fit the model.*c_attn") as error:
        load_model(alone, ModelSettings())
    assert "\n" not in str(error.value)
