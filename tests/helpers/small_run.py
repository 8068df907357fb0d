"""A very small model and recipe, and what a run left behind, for comparison."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from phisight.core.recipe import recipe_from
from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor

DECODER = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
}
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 112,
    "patch_size": 14,
    "projection_dim": 16,
}


def save_small_model(data: Path, folder: Path) -> None:
    """A model of a few thousand weights whose tokenizer knows the data set's texts."""
    opened = DatasetFolder.open(data)
    texts = [opened.task.prompt, *(opened.task.render(row) for row in opened.rows("train"))]
    processor = tiny_processor(texts, vocab_size=360)
    model = tiny_model(tiny_config(processor.tokenizer, vision_config=TOWER, **DECODER))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def small_recipe(data: Path, model: Path, out: Path, *, workers: int = 0, **train: Any) -> Recipe:
    """A short LoRA run with dropout and micro-batches; ``train`` changes its settings by name."""
    defaults = {"method": "lora", "steps": 12, "batch_size": 2, "accumulate": 2, "learning_rate": 0.01}
    every = {"log_every": 2, "evaluate_every": 3, "save_every": 3}
    return recipe_from(
        {
            "out": str(out),
            "model": {"name": str(model)},
            "data": {"path": str(data), "workers": workers, "feature_cache_gb": 0},
            "train": {**defaults, **every, **train},
            "lora": {"rank": 2, "dropout": 0.1},
        }
    )


CLOCKED = {"time", "train/data_wait"}


def curve(run: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what a clock measured."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKED} for line in lines]


def weights(run: Path) -> dict[str, Tensor]:
    """Tensors of the best model."""
    return {
        f"{path.name}:{name}": value
        for path in sorted((run / "best").glob("*.safetensors"))
        for name, value in load_file(path).items()
    }
