"""What stands beside the weights in the official layout: configuration, generation settings, processor, number head."""

from __future__ import annotations

import json
import re
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, CLIPVisionConfig, GenerationConfig

from phisight.core.errors import CheckpointError
from phisight.core.read_files import read_object
from phisight.core.run_folder import UNFAMILIAR
from phisight.export.compare import equal_layout
from phisight.export.merge import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from phisight.export.tensor_files import TensorSpec
from phisight.model.checkpoint import HUB_TIMEOUT_S, INDEX, WEIGHTS, stop_at_turn_end, within
from phisight.model.configuration import CONFIG_FILE, VIT_L_14_336, Phi3VConfig, check_model_config
from phisight.model.number_head import NUMBER_HEAD
from phisight.model.processing import Phi3VProcessor

OFFICIAL_SIZE = {"hidden_size": 3072, "num_hidden_layers": 32, "vocab_size": 32064, "num_attention_heads": 32}
PHI_3, PHI_35 = "microsoft/Phi-3-vision-128k-instruct", "microsoft/Phi-3.5-vision-instruct"
PHI_35_FACTOR = 1.08
"""The first short rotary factor of Phi-3.5-Vision, which every fine-tuned one keeps; Phi-3-Vision's is 1.05."""
REMEMBERED_S = 60.0
PROCESSOR_FILES = ("tokenizer_config.json", "preprocessor_config.json")
"""What a folder has that a processor can be loaded from."""
COMMIT = re.compile("[0-9a-f]{40}")
REMOTE_CODE = (
    "`config.json` names the hub's own code (`auto_map`), for programs without phisight: it runs with eager attention "
    "on transformers 4.38 to 4.48, from 4.49 on without a key-value cache, and on 5.x it cannot generate at all."
)


def read_config(source: str | Path, **hub: Any) -> Phi3VConfig:
    """The configuration of a folder or hub name; CheckpointError for another architecture."""
    require_reachable(source, hub.get("revision"))
    check_model_config(Path(source))
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


class HubAnswer(NamedTuple):
    """What is known of a hub name."""

    files: list[str]
    from_cache: bool
    """The hub does not say, and the cache holds all of the model: it has to be loaded without asking the hub."""


_ANSWERS: dict[tuple[str, str | None], tuple[float, HubAnswer | Exception]] = {}
"""When the hub was asked about a name and revision, and what it said."""


def hub_answer(name: str, revision: str | None = None) -> HubAnswer | Exception:
    """Files of a hub name; the error where neither the hub says them nor the cache holds a whole model of that name.

    Asked once, without retries; who asks again within a minute gets the same answer.
    """
    key, now = (name, revision), time.monotonic()
    if key not in _ANSWERS or now - _ANSWERS[key][0] > REMEMBERED_S:
        answer = _ask_hub(name, revision)
        _ANSWERS[key] = time.monotonic(), answer
    return _ANSWERS[key][1]


def hub_options(name: str, revision: str | None = None) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a folder or hub name: the revision, and whether only the cache is read."""
    if Path(name).is_dir():
        return {}
    answer = hub_answer(name, revision)
    alone = isinstance(answer, HubAnswer) and answer.from_cache
    return ({"revision": revision} if revision else {}) | ({"local_files_only": True} if alone else {})


def _ask_hub(name: str, revision: str | None) -> HubAnswer | Exception:
    if revision and COMMIT.fullmatch(revision) and (files := cached_files(name, revision)):  # a commit never changes
        return HubAnswer(files, from_cache=True)
    try:
        about = within(HUB_TIMEOUT_S, lambda: HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_S))
        return HubAnswer([one.rfilename for one in about.siblings or []], from_cache=False)
    except Exception as error:  # whatever the HTTP library calls it
        files = cached_files(name, revision)
        return HubAnswer(files, from_cache=True) if files else error


def cached_files(name: str, revision: str | None = None) -> list[str]:
    """Files of a hub name in the cache: all that a model or adapters need, or none.

    A configuration alone is left behind by a download that was stopped.
    """
    try:
        place = partial(try_to_load_from_cache, name, revision=revision)
        wanted = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
        if isinstance(place(CONFIG_FILE), str):
            shards = {WEIGHTS}
            if not isinstance(place(WEIGHTS), str) and isinstance(index := place(INDEX), str):
                shards = {INDEX, *read_object(Path(index))["weight_map"].values()}
            wanted = [CONFIG_FILE, *PROCESSOR_FILES, *sorted(shards)]
        return wanted if all(isinstance(place(file), str) for file in wanted) else []
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # no name of a hub, or a damaged index
        return []


def require_reachable(source: str | Path, revision: str | None = None) -> None:
    """CheckpointError for a name that is no folder, is not whole in the cache, and is not found on the hub."""
    name = str(source)
    answer = None if Path(name).exists() else hub_answer(name, revision)
    if isinstance(answer, Exception):
        reason = " ".join(str(answer).split())[:120]
        raise CheckpointError(
            f"no model at {name!r}: no such folder, not (or not all of it) in the cache, and the hub says "
            f"{type(answer).__name__}: {reason}; name a folder with config.json, or a hub name that can be reached"
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


def copy_familiarity(file: Path | None, out: Path) -> None:
    """Copy what scores how unfamiliar images are into a folder, where there is such a file."""
    if file is not None:
        shutil.copyfile(file, out / UNFAMILIAR)


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
