"""The published folders load through every Auto class without remote code and without a question."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from phisight.model import Phi3VConfig, Phi3VImageProcessor, Phi3VisionForConditionalGeneration, Phi3VProcessor
from phisight.model.configuration import VIT_L_14_336
from tests.helpers import official

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)

PARAMETERS = 4_146_621_440
MODELS = ("phi-3-vision-128k-instruct", "phi-3.5-vision-instruct")
TINY = {"phi-3-vision-128k-instruct": "tiny-phi3v", "phi-3.5-vision-instruct": "tiny-phi35v"}
CROPS = {"phi-3-vision-128k-instruct": 16, "phi-3.5-vision-instruct": 4}


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str) -> Path:
    return official.REFERENCE / "official" / name


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question on the terminal is an error."""
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def refuse(*_: Any) -> str:
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr("builtins.input", refuse)


@pytest.mark.parametrize("asked", [{"trust_remote_code": False}, {}])
def test_auto_classes(folder: Path, name: str, asked: dict[str, bool]) -> None:
    config = AutoConfig.from_pretrained(folder, **asked)
    assert type(config) is Phi3VConfig
    assert {key: getattr(config.vision_config, key) for key in VIT_L_14_336} == VIT_L_14_336
    assert (config.crop_size, config.original_length, config.num_img_tokens) == (336, 4096, 144)
    processor = AutoProcessor.from_pretrained(folder, **asked)
    assert type(processor) is Phi3VProcessor
    assert processor.image_processor.num_crops == CROPS[name]
    assert type(AutoImageProcessor.from_pretrained(folder, **asked)) is Phi3VImageProcessor
    tokenizer = AutoTokenizer.from_pretrained(folder, **asked)
    assert tokenizer("<|user|>\n")["input_ids"] == [1, 32010, 29871, 13]


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_the_image_processor_needs_no_torchvision(folder: Path, backend: str) -> None:
    assert type(AutoImageProcessor.from_pretrained(folder, backend=backend)) is Phi3VImageProcessor
    assert type(AutoProcessor.from_pretrained(folder, backend=backend).image_processor) is Phi3VImageProcessor


def test_torchvision_when_it_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.auto import image_processing_auto

    monkeypatch.setattr(image_processing_auto, "is_torchvision_available", lambda: True)
    assert type(AutoImageProcessor.from_pretrained(folder)) is Phi3VImageProcessor


@pytest.mark.parametrize("auto", [AutoModelForCausalLM, AutoModelForImageTextToText])
def test_a_folder_with_the_published_auto_map_loads(name: str, auto: Any, tmp_path: Path) -> None:
    published = json.loads((official.REFERENCE / "official" / name / "config.json").read_text(encoding="utf-8"))
    path = official.folder(TINY[name], {"auto_map": published["auto_map"]}, tmp_path / "checkpoint")
    for asked in ({"trust_remote_code": False}, {}):
        assert type(auto.from_pretrained(path, **asked)) is Phi3VisionForConditionalGeneration


def test_names_and_shapes_at_full_size(folder: Path) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    published = json.loads((folder / "parameter_shapes.json").read_text(encoding="utf-8"))
    assert shapes == published["shapes"]
    assert published["total_parameters"] == PARAMETERS
    assert len(shapes) == 592
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS


def test_names_equal_the_published_index() -> None:
    folder = official.REFERENCE / "official" / MODELS[0]
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    assert set(model.state_dict()) == set(index["weight_map"])
    assert index["metadata"]["total_size"] == 2 * PARAMETERS


def test_a_saved_config_equals_the_published_one(folder: Path, tmp_path: Path) -> None:
    AutoConfig.from_pretrained(folder).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    published = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    left_out = {"auto_map", "_attn_implementation", "transformers_version", "_name_or_path"}
    differing = {
        key: (saved.get(key), value)
        for key, value in published.items()
        if key not in left_out and saved.get(key) != value
    }
    assert not differing
    assert "vision_config" not in saved
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.to_dict() == {**AutoConfig.from_pretrained(folder).to_dict(), "_name_or_path": again._name_or_path}


def test_saved_processors_keep_the_published_settings(folder: Path, tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    published = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    published.pop("auto_map")
    assert {key: saved.get(key) for key in published} == published | {"processor_class": saved.get("processor_class")}
    for saved_file in tmp_path.glob("*.json"):
        assert "auto_map" not in json.loads(saved_file.read_text(encoding="utf-8"))
    for tokenizer in (AutoProcessor.from_pretrained(tmp_path).tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        for about in official.entries("tokenizer"):
            assert tokenizer(about["text"])["input_ids"] == about["ids"]
