"""What stands beside the weights in the official layout: configuration, generation settings, processor, number head."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, CLIPVisionConfig, GenerationConfig

from phisight.core.errors import CheckpointError
from phisight.export.compare import equal_layout
from phisight.export.tensor_files import TensorSpec
from phisight.model.checkpoint import stop_at_turn_end
from phisight.model.configuration import VIT_L_14_336, Phi3VConfig
from phisight.model.number_head import NUMBER_HEAD

OFFICIAL_SIZE = {"hidden_size": 3072, "num_hidden_layers": 32, "vocab_size": 32064, "num_attention_heads": 32}
PHI_3, PHI_35 = "microsoft/Phi-3-vision-128k-instruct", "microsoft/Phi-3.5-vision-instruct"
HUB_TIMEOUT_S = 4.0
REMOTE_CODE = (
    "`config.json` names the hub's own code (`auto_map`), for programs without phisight: it runs with eager attention "
    "on transformers 4.38 to 4.48, from 4.49 on without a key-value cache, and on 5.x it cannot generate at all."
)


def read_config(source: str | Path, **hub: Any) -> Phi3VConfig:
    """The configuration of a folder or hub name; CheckpointError for another architecture."""
    _require_reachable(source)
    try:
        config = AutoConfig.from_pretrained(source, **hub)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source} has no configuration ({' '.join(str(error).split())[:160]})") from error
    if not isinstance(config, Phi3VConfig):
        raise CheckpointError(f"{source} holds a {config.model_type} model: phisight trains phi3_v")
    return config


def _require_reachable(source: str | Path) -> None:
    """CheckpointError for a hub name that is neither cached nor found on the hub: asked once, without retries."""
    name = str(source)
    if Path(name).exists():
        return
    repair = "name a folder with config.json, or a hub name that can be reached"
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # whatever the HTTP library calls it
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"no model at {name!r}: no such folder, not in the cache, and the hub says {type(error).__name__}: "
            f"{reason}; {repair}"
        ) from error


def write_config(source: str | Path, out: Path, dtype: torch.dtype | None, *, remote_code: bool = False) -> Phi3VConfig:
    """Write ``config.json`` and ``generation_config.json`` (ends at ``<|end|>``); returns the configuration."""
    config = read_config(source)
    config.dtype = dtype or config.dtype
    config.use_cache = True
    config.name_or_path = ""
    config.save_pretrained(out)
    try:
        generation = GenerationConfig.from_pretrained(source)
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    stop_at_turn_end(generation, config)
    generation.save_pretrained(out)
    if remote_code:
        _name_remote_code(source, config, out)
    return config


def write_processor(source: str | Path, out: Path) -> Any:
    """Write tokenizer and image processor; returns the processor."""
    processor = AutoProcessor.from_pretrained(source)
    processor.save_pretrained(out)
    return processor


def copy_number_head(source: Path, out: Path) -> None:
    """Copy the number head of a folder, where it has one."""
    if (source / NUMBER_HEAD).is_file():
        shutil.copyfile(source / NUMBER_HEAD, out / NUMBER_HEAD)


def require_layout(written: list[TensorSpec], config: Phi3VConfig) -> None:
    """CheckpointError unless the written tensors are exactly those of the model that the configuration describes."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    equal_layout({spec.name: spec.shape for spec in written}, shapes)


def _name_remote_code(source: str | Path, config: Phi3VConfig, out: Path) -> None:
    """Write ``auto_map`` into the JSON files, as the published ones have it."""
    vision = config.vision_config.to_dict() if isinstance(config.vision_config, CLIPVisionConfig) else {}
    differing = [key for key, value in OFFICIAL_SIZE.items() if getattr(config, key) != value]
    differing += [f"vision {key}" for key, value in VIT_L_14_336.items() if vision.get(key) != value]
    if differing:
        raise CheckpointError(
            f"--remote-code is for models of the published size, and {source} differs in {', '.join(differing[:5])}; "
            "leave it out"
        )
    settings = out / "preprocessor_config.json"
    crops = json.loads(settings.read_text(encoding="utf-8")).get("num_crops", 1)
    hub = PHI_35 if "3.5" in str(source) or crops == 4 else PHI_3
    code = f"{hub}--"
    _update(out / "config.json", {
        "AutoConfig": f"{code}configuration_phi3_v.Phi3VConfig",
        "AutoModelForCausalLM": f"{code}modeling_phi3_v.Phi3VForCausalLM",
    })  # fmt: skip
    _update(settings, {
        "AutoProcessor": f"{code}processing_phi3_v.Phi3VProcessor",
        "AutoImageProcessor": f"{code}processing_phi3_v.Phi3VImageProcessor",
    })  # fmt: skip


def _update(path: Path, auto_map: dict[str, str]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    values["auto_map"] = auto_map
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
