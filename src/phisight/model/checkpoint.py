"""Checkpoints in the official layout, strictly: every tensor of the file is used, every tensor of the model filled.

The library warns about tensors that are missing (and leaves them at random) or unknown; here both are errors, and what
was loaded is compared with the file afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import cached_file

from phisight.core.errors import CheckpointError, some
from phisight.core.read_files import read_object
from phisight.model.configuration import Phi3VConfig
from phisight.model.number_head import attach_head, load_number_head

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def load_strictly(load: Callable[..., Any], name: str | os.PathLike[str] | None, *args: Any, **kwargs: Any) -> Any:
    """Call the library's ``from_pretrained`` and refuse what it would only warn about."""
    verify = kwargs.pop("verify", True)
    with_info = kwargs.pop("output_loading_info", False)
    kwargs["ignore_mismatched_sizes"] = True  # reported below with names and shapes, which the library's error lacks
    model, info = load(name, *args, output_loading_info=True, **kwargs)
    _refuse_differences(name, info)
    stop_at_turn_end(model.generation_config, model.config)
    if verify and name is not None and kwargs.get("state_dict") is None and not getattr(model, "hf_quantizer", None):
        hub = {key: kwargs[key] for key in _HUB_OPTIONS if kwargs.get(key) is not None}
        verify_against_files(model, weight_files(name, **hub))
    if name is not None and Path(name).is_dir():
        attach_head(model, load_number_head(Path(name)))
    return (model, info) if with_info else model


def _refuse_differences(name: object, info: dict[str, Any]) -> None:
    problems = []
    for key, what in (("missing_keys", "missing"), ("unexpected_keys", "unknown")):
        if info.get(key):
            problems.append(f"{len(info[key])} tensors {what} ({some(sorted(info[key]))})")
    wrong = sorted(info.get("mismatched_keys") or [])
    if wrong:
        shown = some(f"{key}: file {list(in_file)}, model {list(in_model)}" for key, in_file, in_model in wrong)
        problems.append(f"{len(wrong)} tensors of another shape ({shown})")
    if problems:
        raise CheckpointError(
            f"{name} does not hold this model: {'; '.join(problems)}; is config.json the one of these weights?"
        )


def stop_at_turn_end(generation: GenerationConfig | None, config: Phi3VConfig) -> None:
    """Let generation end at the end of a turn and of the text, and never write an image placeholder.

    The published generation config names only ``</s>``, which the model does not use to end a turn.
    """
    if generation is None:
        return
    named = generation.eos_token_id
    ends = [] if named is None else list(named) if isinstance(named, (list, tuple)) else [named]
    wanted = [config.turn_end_token_id, config.pad_token_id]
    generation.eos_token_id = sorted({int(end) for end in [*ends, *wanted] if end is not None})
    if generation.pad_token_id is None:
        generation.pad_token_id = config.pad_token_id
    generation.suppress_tokens = sorted({*(generation.suppress_tokens or []), config.image_token_id})


def weight_files(name: str | os.PathLike[str], **hub: Any) -> list[Path]:
    """Safetensors files of a folder or a hub name (from the cache, where loading has put them)."""
    index = cached_file(name, INDEX, _raise_exceptions_for_missing_entries=False, **hub)
    single = cached_file(name, WEIGHTS, _raise_exceptions_for_missing_entries=False, **hub)
    if single is not None:
        return [Path(single)]
    if index is None:
        raise CheckpointError(f"{name} holds neither {WEIGHTS} nor {INDEX}; only safetensors are loaded")
    try:
        shards = sorted({str(shard) for shard in read_object(Path(index))["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} cannot be read ({error}); copy the checkpoint again") from error
    return [Path(cached_file(name, shard, **hub)) for shard in shards]


def tensors_of(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every tensor, one at a time; opened anew for each, so that no more of a file stays mapped."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        for name in names:
            with safe_open(path, framework="pt") as file:
                yield name, file.get_tensor(name)


def verify_against_files(model: PreTrainedModel, files: list[Path]) -> None:
    """CheckpointError when a value in memory is not the file's (cast to the type in memory) or a name is left over."""
    held = dict(model.state_dict())
    different = []
    for name, value in tensors_of(files):
        mine = held.pop(name, None)
        if mine is None or mine.is_meta:
            if mine is None:
                different.append(f"{name} (not in the model)")
            continue
        if mine.shape != value.shape or not torch.equal(mine.cpu(), value.to(mine.dtype)):
            different.append(name)
    different += [f"{name} (not in the file)" for name in held]
    if different:
        raise CheckpointError(
            f"after loading, {len(different)} tensors differ from the file: {some(different)}; "
            "the file changed meanwhile or the library renamed them"
        )
