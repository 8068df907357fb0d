"""Exports: merged, whole, equal to their run, refused in one line where they cannot be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import phisight
from phisight.cli import app
from phisight.core.errors import CheckpointError, PhisightError, SettingsError, StorageError
from phisight.export.compare import Observation, require_equal
from phisight.export.merge import write_merged
from phisight.export.publish import publish_model
from phisight.export.subject import read_run
from phisight.export.task_file import TaskFile
from phisight.generate import load_rgb
from phisight.workflows.export import ExportDtype, export_model
from phisight.workflows.load import load_model, load_run
from tests.helpers.trained_run import trained

pytestmark = pytest.mark.usefixtures("forked_exports")


@pytest.fixture(scope="module")
def lora(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings: dict[str, Any] = {"steps": 3, "learning_rate": 3e-2, "evaluate_every": 3, "method": "lora"}
    return trained(products, tmp_path_factory.mktemp("lora") / "run", model=str(base), **settings)


@pytest.fixture(scope="module")
def exported(lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "merged"
    done = CliRunner().invoke(app, ["export", str(lora), "--out", str(out), "--rows", "2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def test_what_was_scored_is_what_is_exported(lora: Path, exported: Path) -> None:
    scored = load_run(lora)[0].state_dict()
    written = load_file(exported / "model.safetensors")
    assert written.keys() == {name for name in scored if "number_head" not in name}
    assert all(value.equal(scored[name]) for name, value in written.items())
    assert (exported / "number_head.safetensors").is_file()
    generation = json.loads((exported / "generation_config.json").read_text())
    config = json.loads((exported / "config.json").read_text())
    assert config["turn_end_token_id"] in generation["eos_token_id"]
    card = (exported / "README.md").read_text()
    assert "greedy answers of 2 rows equal" in card
    assert "[More Information Needed]" not in card


def test_it_answers_from_python_as_the_run_does(lora: Path, exported: Path, products: Path) -> None:
    image = next((products / "images").rglob("*.jpg"))
    mine, theirs = (phisight.load(name).extract(image) for name in (lora, exported))
    assert (mine.text, dict(mine)) == (theirs.text, dict(theirs))
    assert not list(exported.parent.glob(".*partial"))


def test_adapters_alone(lora: Path, tmp_path: Path) -> None:
    done = export_model(lora, tmp_path / "out", adapter=True)
    names = {path.name for path in done.folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "task.json", "README.md"} <= names
    assert not any(name.startswith("model") for name in names)
    card = (done.folder / "README.md").read_text()
    assert "library_name: peft" in card
    assert "[More Information Needed]" not in card


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_are_those_that_peft_loads_onto_the_base(
    method: str, base: Path, products: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"steps": 3, "learning_rate": 3e-2, "evaluate_every": None, "method": method}
    run = trained(products, tmp_path / "run", model=str(base), **settings)
    done = export_model(run, tmp_path / "out", adapter=True)
    assert "greedy answers of 2 rows equal" in done.compared
    assert "Loaded by PEFT onto their base" in (done.folder / "README.md").read_text()
    model, processor = load_model(base, read_run(run).model)
    image = load_rgb(next((products / "images").rglob("*.jpg")))
    asked = "<|user|>\n<|image_1|>\nWhat?<|end|>\n<|assistant|>\n"
    inputs = processor(text=asked, images=image, return_tensors="pt")
    with torch.no_grad():
        bare = model.eval()(**inputs).logits
        theirs = PeftModel.from_pretrained(model, done.folder).eval()(**inputs).logits
        mine = load_run(run)[0].eval()(**inputs).logits
    assert torch.allclose(theirs, mine, atol=1e-4, rtol=0)
    assert not torch.allclose(bare, mine, atol=1e-2, rtol=0)


@pytest.mark.parametrize("fault", ["scale", "name"])
def test_adapters_that_peft_reads_as_others_are_not_exported(
    fault: str, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault in what is written for PEFT: another scale, and tensors that it skips with a warning."""
    copy = shutil.copyfile

    def faulty(source: Any, target: Any) -> Any:
        done = copy(source, target)
        if Path(target).name == "adapter_model.safetensors":
            tensors = load_file(target)
            changed = {
                (name.replace("layers.0", "layers.9") if fault == "name" else name): value * (1 + (fault == "scale"))
                for name, value in tensors.items()
            }
            save_file(changed, target)
        return done

    monkeypatch.setattr(shutil, "copyfile", faulty)
    with pytest.raises(CheckpointError, match="the export") as error:
        export_model(lora, tmp_path / "out", adapter=True)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_another_type_of_weights(lora: Path, tmp_path: Path) -> None:
    export_model(lora, tmp_path / "out", dtype="bfloat16", rows=0)
    assert {value.dtype for value in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_an_export_of_an_export_keeps_what_is_known(lora: Path, exported: Path, tmp_path: Path) -> None:
    """In another type of weights, say: task, number head, and what the card tells of the training."""
    done = export_model(exported, tmp_path / "out", dtype="bfloat16", rows=0)
    card, first = ((folder / "README.md").read_text() for folder in (done.folder, exported))
    known = first[first.index("## Trained on") : first.index("## Limits")]
    assert "Method: lora" in known
    assert known in card
    assert "exported with phisight from `merged`; weights in bfloat16" in card
    for name in ("task.json", "number_head.safetensors"):
        assert (done.folder / name).read_bytes() == (exported / name).read_bytes()


@pytest.mark.parametrize("constrained", [False, True], ids=["free", "constrained"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_an_export_that_answers_differently_is_none(
    dtype: ExportDtype | None, constrained: bool, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault in merging is seen by the comparison, and nothing is left."""
    run = held(lora, tmp_path / "run") if constrained else lora
    merged = write_merged

    def faulty(base: Any, adapters: Any, out: Path, dtype: Any = None) -> Any:
        return merged(base, [], out, dtype)  # the adapters are forgotten

    monkeypatch.setattr("phisight.export.write.write_merged", faulty)
    with pytest.raises(CheckpointError, match="the export") as error:
        export_model(run, tmp_path / "out", rows=2, dtype=dtype)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == (["run"] if constrained else [])


def held(run: Path, copy: Path) -> Path:
    """A copy of a run that is scored with answers held to the template."""
    shutil.copytree(run, copy)
    text = (copy / "config.yaml").read_text().replace("max_new_tokens: 24", "max_new_tokens: 96")
    (copy / "config.yaml").write_text(text.replace("constrained: false", "constrained: true"))
    return copy


def test_a_constrained_run_is_compared_as_it_is_scored(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows, of the test and training splits where the validation split is smaller; every answer can be read."""
    seen: list[Observation] = []
    equal = require_equal

    def noted(mine: Observation, theirs: Observation, *rest: Any) -> str:
        seen.extend([mine, theirs])
        return equal(mine, theirs, *rest)

    monkeypatch.setattr("phisight.workflows.export.require_equal", noted)
    done = export_model(held(lora, tmp_path / "run"), tmp_path / "out")
    assert "greedy answers of 10 rows equal" in done.compared, "8 of the validation split, 2 of another one"
    task = TaskFile.read(tmp_path / "out")
    assert task is not None
    assert task.constrained
    texts = [text for one in seen for text in one.texts]
    assert len(texts) == 20
    assert all(task.task.parse(text).values is not None for text in texts)


def refused(error: type[PhisightError], words: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(error, match=words) as found:
        export_model(*arguments, **options)
    assert "\n" not in str(found.value)


def test_what_cannot_be_exported(lora: Path, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused(SettingsError, "is there already and not empty", lora, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    refused(SettingsError, "holds whole weights and no adapters", tiny_run, tmp_path / "a", adapter=True)
    refused(
        SettingsError, "--adapter copies the adapters as they are", lora, tmp_path / "b", adapter=True, dtype="float16"
    )
    refused(CheckpointError, "is for models of the published size", tiny_run, tmp_path / "c", remote_code=True, rows=0)


def test_another_architecture_is_named(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    path = other / "config.json"
    path.write_text(json.dumps({"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"]}))
    refused(CheckpointError, "qwen3_vl model: phisight trains phi3_v", other, tmp_path / "out")


def test_a_task_file_that_lacks_a_field(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    path = other / "task.json"
    values = json.loads(path.read_text())
    del values["task"]["fields"]["title"]
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"task\.json.*the answer template names") as error:
        phisight.load(other)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_nothing(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("phisight.export.write.copy_number_head", full)
    refused(StorageError, r"No space left on device; .* GB are free\); nothing is left of it", lora, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_hub_that_says_no_leaves_the_export(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def no(*_: Any, **__: Any) -> None:
        raise ValueError("Repo id must be in the form owner/name")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", no)
    with pytest.raises(StorageError, match=r"could not be pushed.*the export stands in"):
        publish_model(exported, "no")
