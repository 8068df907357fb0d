"""What stands beside the weights in the official layout: configuration, generation settings, processor, number head."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, CLIPVisionConfig, GenerationConfig

from phisight.core.errors import CheckpointError
from phisight.export.compare import equal_layout
from phisight.export.merge import ADAPTER_CONFIG
from phisight.export.tensor_files import TensorSpec
from phisight.model.checkpoint import HUB_TIMEOUT_S, stop_at_turn_end, within
from phisight.model.configuration import VIT_L_14_336, Phi3VConfig
from phisight.model.number_head import NUMBER_HEAD
from phisight.model.processing import Phi3VProcessor

OFFICIAL_SIZE = {"hidden_size": 3072, "num_hidden_layers": 32, "vocab_size": 32064, "num_attention_heads": 32}
PHI_3, PHI_35 = "microsoft/Phi-3-vision-128k-instruct", "microsoft/Phi-3.5-vision-instruct"
PHI_35_FACTOR = 1.08
"""The first short rotary factor of Phi-3.5-Vision, which every fine-tuned one keeps; Phi-3-Vision's is 1.05."""
REMEMBERED_S = 60.0
_ANSWERS: dict[tuple[str, str | None], tuple[float, list[str] | Exception]] = {}
"""When the hub was asked about a name and revision, and what it said."""
REMOTE_CODE = (
    "`config.json` names the hub's own code (`auto_map`), for programs without phisight: it runs with eager attention "
    "on transformers 4.38 to 4.48, from 4.49 on without a key-value cache, and on 5.x it cannot generate at all."
)


def read_config(source: str | Path, **hub: Any) -> Phi3VConfig:
    """The configuration of a folder or hub name; CheckpointError for another architecture."""
    require_reachable(source, hub.get("revision"))
    try:
        config = AutoConfig.from_pretrained(source, **hub)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{source} has no configuration that can be read ({' '.join(str(error).split())[:160]}); name a folder "
            "with config.json"
        ) from error
    if not isinstance(config, Phi3VConfig):
        raise CheckpointError(f"{source} holds a {config.model_type} model: phisight trains phi3_v")
    return config


def require_whole(config: Phi3VConfig, source: str | Path) -> None:
    """CheckpointError for quantized weights, which no adapter can be merged into."""
    method = getattr(config, "quantization_config", None)
    if method:
        kind = method.get("quant_method") if isinstance(method, dict) else getattr(method, "quant_method", None)
        raise CheckpointError(
            f"{source} holds quantized weights ({kind or 'of an unknown kind'}), which cannot be exported; name the "
            "model in full precision that they were made from"
        )


def read_processor(source: str | Path, **hub: Any) -> Any:
    """Tokenizer and image processor of a folder or hub name; CheckpointError where a file is missing or damaged."""
    try:
        processor = AutoProcessor.from_pretrained(source, **hub)
        if not isinstance(processor, Phi3VProcessor):  # the library takes what it finds, a tokenizer alone too
            raise TypeError(f"its files describe a {type(processor).__name__}")
        if not isinstance(longest := processor.tokenizer.model_max_length, int | float):
            raise TypeError(f"model_max_length is {longest!r}, a number is wanted")
        return processor
    except MemoryError:
        raise
    except Exception as error:  # the library raises its own, JSON's, the template's and the tokenizer's
        raise CheckpointError(
            f"no processor at {str(source)!r} ({type(error).__name__}: {' '.join(str(error).split())[:160]}); copy the "
            "tokenizer and preprocessor files again, or name another folder"
        ) from error


def hub_files(name: str, revision: str | None = None) -> list[str] | Exception:
    """Files of a hub name, of a cached one those of a model that are cached; the error where the hub does not say.

    Asked once, without retries; who asks again within a minute gets the same answer.
    """
    key, now = (name, revision), time.monotonic()
    if key not in _ANSWERS or now - _ANSWERS[key][0] > REMEMBERED_S:
        _ANSWERS[key] = now, _ask_hub(name, revision)
    return _ANSWERS[key][1]


def _ask_hub(name: str, revision: str | None) -> list[str] | Exception:
    try:
        whole = ("config.json", ADAPTER_CONFIG)
        cached = [file for file in whole if isinstance(try_to_load_from_cache(name, file, revision=revision), str)]
        if cached:
            return cached
        about = within(HUB_TIMEOUT_S, lambda: HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_S))
        return [one.rfilename for one in about.siblings or []]
    except Exception as error:  # whatever the HTTP library calls it
        return error


def require_reachable(source: str | Path, revision: str | None = None) -> None:
    """CheckpointError for a name that is no folder, is not cached, and is not found on the hub."""
    name = str(source)
    answer = [] if Path(name).exists() else hub_files(name, revision)
    if isinstance(answer, Exception):
        reason = " ".join(str(answer).split())[:120]
        raise CheckpointError(
            f"no model at {name!r}: no such folder, not in the cache, and the hub says {type(answer).__name__}: "
            f"{reason}; name a folder with config.json, or a hub name that can be reached"
        ) from answer


def write_config(
    source: str | Path, out: Path, dtype: torch.dtype | None, *, remote_code: bool = False, **hub: Any
) -> Phi3VConfig:
    """Write ``config.json`` and ``generation_config.json`` (ends at ``<|end|>``); returns the configuration."""
    config = read_config(source, **hub)
    require_whole(config, source)
    config.dtype = dtype or config.dtype
    config.use_cache = True
    config.name_or_path = ""
    config.save_pretrained(out)
    try:
        generation = GenerationConfig.from_pretrained(source, **hub)
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    stop_at_turn_end(generation, config)
    generation.save_pretrained(out)
    if remote_code:
        _name_remote_code(source, config, out)
    return config


def write_processor(source: str | Path, out: Path, **hub: Any) -> Any:
    """Write tokenizer and image processor; returns the processor."""
    processor = read_processor(source, **hub)
    processor.save_pretrained(out)
    return processor


def copy_number_head(head: Path | None, out: Path) -> None:
    """Copy a number head into a folder, where there is one."""
    if head is not None:
        shutil.copyfile(head, out / NUMBER_HEAD)


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
    factors = config.rope_parameters.get("short_factor") or [0.0]
    code = f"{PHI_35 if abs(factors[0] - PHI_35_FACTOR) < 0.01 else PHI_3}--"
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
