"""Small runs on made-up products, in seconds."""

from pathlib import Path
from typing import Any

from phisight.core.recipe import recipe_from
from phisight.workflows.train import train


def trained(
    data: Path,
    out: Path,
    *,
    model: str = "tiny",
    track: dict[str, Any] | None = None,
    images: int = 1,
    dtype: str = "auto",
    evaluate: dict[str, Any] | None = None,
    **train_settings: Any,
) -> Path:
    """A run folder after a few steps."""
    settings = {"method": "full", "steps": 4, "batch_size": 4, "learning_rate": 3e-3, "log_every": 1}
    return train(
        recipe_from(
            {
                "out": str(out),
                "model": {"name": model, "attention": "eager", "dtype": dtype},
                "data": {"path": str(data), "feature_cache": str(out / "features"), "images": images},
                "train": {**settings, "evaluate_every": 2, **train_settings},
                "track": track or {},
                "evaluate": {"max_new_tokens": 24, "batch_size": 8, "split": "validation", **(evaluate or {})},
            }
        )
    )
