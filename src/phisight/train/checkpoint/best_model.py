"""``RUN/best``: the trained model and its processor, ready to be loaded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phisight.model.number_head import save_head, split_head_state
from phisight.train.checkpoint.manifest import translate_write_errors
from phisight.train.distributed.fsdp import unsharded_copy
from phisight.train.trainable.quantize import merge_quantized


def saving_options(model: Any, weights: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``save_pretrained`` is given: the whole ``weights`` of a model that holds only shards.

    Adapters never change the embeddings; PEFT would ask the hub, at every save, whether they have.
    """
    options: dict[str, Any] = {} if weights is None else {"state_dict": dict(weights)}
    return options | ({"save_embedding_layers": False} if hasattr(model, "peft_config") else {})


def save_best(model: Any, processor: Any, folder: Path, *, whole: bool, weights: dict[str, Any] | None = None) -> None:
    """Model and processor, ready to be loaded; of a model with adapters only these, unless ``whole``.

    The folder is there whole or not at all. ``weights`` are those of a model that holds only shards.
    """
    others, head = split_head_state(weights or {})
    merged, options = model, saving_options(model, weights)
    if whole and hasattr(model, "merge_and_unload"):
        merged, options = _merged(model if weights is None else unsharded_copy(model, others)), {}
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with translate_write_errors("the best model", folder.parent, "its checkpoint remains"):
        merged.save_pretrained(partial, **options)
        processor.save_pretrained(partial)
        save_head(model, partial, head)
        for path in partial.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors leaves them to their owner alone
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _merged(model: Any) -> Any:
    four_bits = getattr(model.get_base_model(), "is_loaded_in_4bit", False)
    return merge_quantized(model) if four_bits else model.merge_and_unload()
