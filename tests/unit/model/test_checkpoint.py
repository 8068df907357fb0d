"""Checkpoints in the official layout: loaded strictly, compared with the file, saved so that others can read them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from phisight.core.errors import CheckpointError
from phisight.model import Phi3VisionForConditionalGeneration, Phi3VProcessor
from phisight.model.checkpoint import verify_against_files, weight_files
from tests.helpers import small_model

Model = Phi3VisionForConditionalGeneration
NORM = "model.layers.1.input_layernorm.weight"


@pytest.fixture
def folder(model: Model, processor: Phi3VProcessor, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: Tensor | None) -> None:
    """Change, add or (none) remove tensors of a saved checkpoint; dots of a name are written as ``__``."""
    tensors = load_file(folder / "model.safetensors")
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("auto", [AutoModelForImageTextToText, AutoModelForCausalLM, Model])
def test_round_trip(folder: Path, model: Model, auto: Any) -> None:
    loaded = auto.from_pretrained(folder)
    assert type(loaded) is Model
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_missing_tensors_are_named(folder: Path) -> None:
    rewrite(folder, model__norm__weight=None, lm_head__weight=None)
    with pytest.raises(CheckpointError, match=r"2 tensors missing \(lm_head\.weight, model\.norm\.weight\)"):
        Model.from_pretrained(folder)


def test_unknown_tensors_are_named(folder: Path) -> None:
    rewrite(folder, model__layers__7__extra=torch.zeros(2))
    with pytest.raises(CheckpointError, match=r"1 tensors unknown \(model\.layers\.7\.extra\)"):
        Model.from_pretrained(folder)


@pytest.mark.parametrize("ignore", [False, True])
def test_misshaped_tensors_are_named(folder: Path, ignore: bool) -> None:
    rewrite(folder, model__norm__weight=torch.zeros(7))
    with pytest.raises(
        CheckpointError, match=r"1 tensors of another shape \(model\.norm\.weight: file \[7\], model \[32\]"
    ):
        Model.from_pretrained(folder, ignore_mismatched_sizes=ignore)


def test_a_config_that_is_not_of_these_weights(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["num_hidden_layers"] = 4
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"6 tensors missing .* is config.json the one of these weights"):
        Model.from_pretrained(folder)


def test_nothing_is_left_at_random(folder: Path) -> None:
    torch.manual_seed(1)
    one = Model.from_pretrained(folder)
    torch.manual_seed(2)
    other = Model.from_pretrained(folder)
    for (name, left), (_, right) in zip(
        [*one.named_parameters(), *one.named_buffers()],
        [*other.named_parameters(), *other.named_buffers()],
        strict=True,
    ):
        assert torch.equal(left, right), name
    fresh = small_model.model()
    for name, buffer in fresh.named_buffers():
        assert torch.equal(dict(one.named_buffers())[name], buffer), name


def test_sharded(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(weight_files(tmp_path)) > 2
    assert not (tmp_path / "model.safetensors").exists()
    loaded = Model.from_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert set(index["weight_map"]) == set(model.state_dict())


@pytest.mark.parametrize("name", [NORM, "model.vision_embed_tokens.glb_GN", "lm_head.weight"])
def test_a_value_changed_in_memory_is_noticed(folder: Path, model: Model, name: str) -> None:
    loaded = Model.from_pretrained(folder)
    files = weight_files(folder)
    verify_against_files(loaded, files)
    with torch.no_grad():
        loaded.get_parameter(name).view(-1)[0] += 1e-3
    with pytest.raises(CheckpointError, match=f"1 tensors differ from the file: {name}"):
        verify_against_files(loaded, files)


def test_a_library_that_changes_values_while_loading_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Model._init_weights

    def careless(self: Model, module: torch.nn.Module) -> None:
        original(self, module)
        if hasattr(module, "variance_epsilon"):
            torch.nn.init.ones_(cast(torch.nn.Parameter, module.weight))

    monkeypatch.setattr(Model, "_initialize_missing_keys", lambda self, *_a, **_k: self.apply(self._init_weights))
    monkeypatch.setattr(Model, "_init_weights", careless)
    with pytest.raises(CheckpointError, match="7 tensors differ from the file"):
        Model.from_pretrained(folder)
    assert Model.from_pretrained(folder, verify=False) is not None


def test_loading_casts_and_still_compares(folder: Path) -> None:
    loaded = Model.from_pretrained(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("attention", [None, "sdpa", "eager"])
def test_the_tower_attends_as_the_decoder_does(folder: Path, attention: str | None) -> None:
    loaded = Model.from_pretrained(folder, **({"attn_implementation": attention} if attention else {}))
    assert loaded.config._attn_implementation == (attention or "sdpa")
    for layer in loaded.model.vision_embed_tokens.img_processor.vision_model.encoder.layers:
        assert layer.self_attn.config._attn_implementation == (attention or "sdpa")


def test_loading_info(folder: Path) -> None:
    _, info = Model.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]


def test_other_formats_are_refused(model: Model, tmp_path: Path) -> None:
    model.config.save_pretrained(tmp_path)
    with pytest.raises((CheckpointError, OSError)):
        Model.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds neither model.safetensors nor model.safetensors.index.json"):
        weight_files(tmp_path)


FRESH = """
import sys, torch, phisight
from pathlib import Path
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
torch.set_num_threads(1)
folder = Path(sys.argv[1])
model = AutoModelForImageTextToText.from_pretrained(folder).eval()
batch = load_file(folder / "batch.safetensors")
with torch.no_grad():
    save_file({"logits": model(**batch).logits}, folder / "logits.safetensors")
"""


@pytest.mark.process
def test_a_fresh_process_gives_the_same_bits(folder: Path, model: Model, processor: Phi3VProcessor) -> None:
    batch = dict(processor(text="<|image_1|>What?", images=small_model.image(1, 160, 100), return_tensors="pt"))
    save_file(batch, folder / "batch.safetensors")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", FRESH, str(folder)], check=True, env=environment, capture_output=True)
    with torch.no_grad():
        logits = model(**batch).logits
    assert torch.equal(load_file(folder / "logits.safetensors")["logits"], logits)


OFFICIAL_FILES = {"config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"}


def test_saved_files_have_the_official_keys(folder: Path) -> None:
    written = {path.name for path in folder.iterdir()}
    assert written >= OFFICIAL_FILES | {"model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Phi3VForCausalLM"]
    assert config["model_type"] == "phi3_v"
    assert config["torch_dtype"] == "float32"
    assert config["rope_scaling"]["type"] == "su"
    assert set(config["rope_scaling"]) == {"type", "short_factor", "long_factor"}
    assert config["sliding_window"] == 131072
    assert config["vision_config"]["image_size"] == small_model.CROP
    pixels = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert pixels["image_processor_type"] == "Phi3VImageProcessor"
    assert (pixels["num_crops"], pixels["crop_size"]) == (6, small_model.CROP)
    text = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert text["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert text["processor_class"] == "Phi3VProcessor"
    for name in (*OFFICIAL_FILES, "tokenizer_config.json"):
        assert "auto_map" not in (folder / name).read_text(encoding="utf-8"), f"{name} names remote code"
