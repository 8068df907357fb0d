"""Models of another architecture, whole or under adapters: one line that says which one, from every command."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import phisight
from phisight.cli import app
from phisight.core.errors import CheckpointError
from phisight.data.dataset.folder import DatasetFolder

VISION = {"hidden_size": 1024, "num_hidden_layers": 24, "image_size": 336, "patch_size": 14}
OTHERS: dict[str, dict[str, Any]] = {
    "qwen3_vl": {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "text_config": {"model_type": "qwen3_vl_text", "hidden_size": 2048},
        "vision_config": {"model_type": "qwen3_vl", "depth": 24, "patch_size": 16},
    },
    "llava": {
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": {"model_type": "llama"},
        "vision_config": {"model_type": "clip_vision_model", **VISION},
    },
    "phi3": {"architectures": ["Phi3ForCausalLM"], "hidden_size": 3072, "num_attention_heads": 32},
    "clip": {"architectures": ["CLIPModel"], "text_config": {}, "vision_config": VISION, "projection_dim": 768},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "hidden_size": 1000, "num_attention_heads": 64, "head_dim": 128},
    "unheard_of": {"architectures": ["NewForCausalLM"], "auto_map": {"AutoConfig": "new.Config"}},
}
COMMANDS = ("train", "evaluate", "predict", "serve", "export", "load", "plan")


def made(folder: Path, kind: str, *, adapters: bool) -> Path:
    """A model folder of a kind, or adapters that name it as their base."""
    base = folder / kind
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": kind, **OTHERS[kind]}))
    if not adapters:
        return base
    top = folder / "adapters"
    top.mkdir()
    (top / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)}))
    (top / "adapter_model.safetensors").write_bytes(b"")
    return top


@pytest.mark.parametrize("adapters", [False, True], ids=["whole", "adapters"])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", OTHERS)
def test_another_architecture_is_named(kind: str, command: str, adapters: bool, products: Path, tmp_path: Path) -> None:
    name = str(made(tmp_path, kind, adapters=adapters))
    data = DatasetFolder.open(products)
    image, out = str(data.image_path(data.rows("test")[0])), str(tmp_path / "out")
    said = f"a {kind} model: phisight trains phi3_v"
    if command == "load":
        with pytest.raises(CheckpointError, match=said) as error:
            phisight.load(name)
        assert "\n" not in str(error.value)
        return
    (tmp_path / "recipe.yaml").write_text(
        f"out: {out}\nmodel: {{name: {name}}}\ndata: {{path: {products}, feature_cache_gb: 0}}\n"
    )
    words = {
        "train": [str(tmp_path / "recipe.yaml")],
        "plan": [str(tmp_path / "recipe.yaml")],
        "evaluate": [name, "--data", str(products), "--out", out],
        "predict": [name, image],
        "serve": [name, "--port", "0"],
        "export": [name, "--out", out],
    }[command]
    done = CliRunner().invoke(app, [command, *words])
    told = str(done.exception) if isinstance(done.exception, CheckpointError) else done.output
    assert done.exit_code == 1
    assert said in told
    assert "\n" not in told.strip()
    assert not (Path(out) / "config.json").exists()
    assert not (Path(out) / "config.yaml").exists()
