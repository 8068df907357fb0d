"""Checkpoints in the official layout, strictly: every tensor of the file is used, every tensor of the model filled.

The library warns about tensors that are missing (and leaves them at random) or unknown; here both are errors, and what
was loaded is compared with the file afterwards.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from safetensors import safe_open
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import cached_file

from phisight.core.errors import CheckpointError, some
from phisight.core.read_files import read_object
from phisight.model.configuration import Phi3VConfig
from phisight.model.number_head import NUMBER_HEAD, attach_head, load_number_head

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Generation settings that only sampling uses."""
HUB_TIMEOUT_S = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or 3)
"""How long the hub may take to say whether it has a model."""
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def load_strictly(load: Callable[..., Any], name: str | os.PathLike[str] | None, *args: Any, **kwargs: Any) -> Any:
    """Call the library's ``from_pretrained`` and refuse what it would only warn about."""
    verify = kwargs.pop("verify", True)
    with_info = kwargs.pop("output_loading_info", False)
    kwargs["ignore_mismatched_sizes"] = True  # reported below with names and shapes, which the library's error lacks
    model, info = load(name, *args, output_loading_info=True, **kwargs)
    _refuse_differences(name, info)
    stop_at_turn_end(model.generation_config, model.config)
    hub = {key: kwargs[key] for key in _HUB_OPTIONS if kwargs.get(key) is not None}
    if verify and name is not None and kwargs.get("state_dict") is None and not getattr(model, "hf_quantizer", None):
        verify_against_files(model, weight_files(name, **hub))
    head = None if name is None else file_of(name, NUMBER_HEAD, **hub)
    if head is not None:
        attach_head(model, load_number_head(head.parent))
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

    The published generation config names only ``</s>``, which the model does not use to end a turn. Settings of
    sampling go where nothing is sampled: greedy decoding ignores them, and the library refuses to save them.
    """
    if generation is None:
        return
    if generation.do_sample is not True:
        for setting in SAMPLING:
            if getattr(generation, setting, None) is not None:
                setattr(generation, setting, None)
    named = generation.eos_token_id
    ends = [] if named is None else list(named) if isinstance(named, (list, tuple)) else [named]
    wanted = [config.turn_end_token_id, config.pad_token_id]
    generation.eos_token_id = sorted({int(end) for end in [*ends, *wanted] if end is not None})
    if generation.pad_token_id is None:
        generation.pad_token_id = config.pad_token_id
    generation.suppress_tokens = sorted({*(generation.suppress_tokens or []), config.image_token_id})


def file_of(name: str | os.PathLike[str], file: str, **hub: Any) -> Path | None:
    """A file of a folder or a hub name, fetched into the cache; None where there is no such file.

    Where the hub does not say within seconds, the cache decides.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    address = {key: value for key, value in hub.items() if key in ("revision", "subfolder")}
    try:
        url = hf_hub_url(str(name), file, **address)
        if not hub.get("local_files_only"):
            within(HUB_TIMEOUT_S, lambda: get_hf_file_metadata(url, token=hub.get("token")))
        return Path(str(cached_file(name, file, **hub)))
    except Exception:  # not there, or no hub: whatever the HTTP library calls it
        options = {key: value for key, value in hub.items() if key in ("cache_dir", "revision")}
        try:
            cached = try_to_load_from_cache(str(name), file, **options)
        except ValueError:  # no name that a hub could have
            return None
        return Path(cached) if isinstance(cached, str) else None


def within(seconds: float, ask: Callable[[], Any]) -> Any:
    """What a question to the hub gives; TimeoutError where it takes too long.

    In a thread: resolving a name and the library's retries may take longer than any timeout that it knows.
    """
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((ask(), None))
        except Exception as error:
            found.append((None, error))

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(seconds)
    if not found:
        raise TimeoutError(f"no answer within {seconds:g} s (HF_HUB_ETAG_TIMEOUT sets another time)")
    answer, error = found[0]
    if error is not None:
        raise error
    return answer


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
    try:
        return [Path(str(cached_file(name, shard, **hub))) for shard in shards]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{index} names files that are not there ({reason}); copy the checkpoint again"
        ) from error


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
