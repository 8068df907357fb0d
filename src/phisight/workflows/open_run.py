"""Begin a run folder, or continue the run that it holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from phisight.core import run_folder
from phisight.core.environment import environment
from phisight.core.errors import SettingsError
from phisight.core.recipe import read_config, write_recipe
from phisight.core.settings import Recipe
from phisight.track import cut_back, forget
from phisight.train.checkpoint.manifest import latest_valid, step_of

CHANGEABLE = (
    "out",
    "data.path",
    "data.workers",
    "data.keep_pixels_gb",
    "data.feature_cache",
    "data.feature_cache_gb",
    "data.trunk_cache_gb",
    "train.batch_size",
    "train.accumulate",
    "train.gradient_checkpointing",
    "train.save_every",
    "evaluate",
    "track",
)
"""Settings that may change when a run continues: its curve stays the same (caches and micro-batches: to rounding).

That the data set holds the same rows, and that micro-batches make steps of the same size, is checked by the checkpoint.
"""


def open_run(recipe: Recipe, *, overwrite: bool, resume: bool, notify: Callable[[str], None]) -> Path | None:
    """Make the recipe's run folder ready; returns the checkpoint to continue from, None to begin.

    With ``resume`` a folder without a run is begun. SettingsError when the folder holds a run and neither is asked for,
    or when the recipe differs from the run's in what changes the curve.
    """
    run_dir = recipe.out
    if resume and (run_dir / run_folder.CONFIG).exists():
        return _continue(recipe, notify)
    if (run_dir / run_folder.CONFIG).exists() and not overwrite:
        raise SettingsError(
            f"{run_dir} already holds a run; continue it with --resume, choose another folder with --set out=DIR, or "
            "replace it with --overwrite"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / run_folder.CONFIG).unlink(missing_ok=True)
    shutil.rmtree(run_dir / run_folder.CHECKPOINTS, ignore_errors=True)
    forget(run_dir)
    run_folder.write_json(run_dir / run_folder.ENVIRONMENT, environment())
    run_folder.write_text_atomically(run_dir / run_folder.CONFIG, write_recipe(recipe))
    return None


def _continue(recipe: Recipe, notify: Callable[[str], None]) -> Path | None:
    before = read_config(recipe.out / run_folder.CONFIG)
    differing = sorted(_differing(before.model_dump(mode="json"), recipe.model_dump(mode="json")))
    if differing:
        changes = ", ".join(f"{key} (was {was!r}, now {now!r})" for key, was, now in differing)
        raise SettingsError(
            f"the run in {recipe.out} was begun with other settings: {changes}; its curve would not continue. Give "
            "them their old values, or start a new run with --set out=DIR"
        )
    checkpoint = latest_valid(recipe.out / run_folder.CHECKPOINTS, notify)
    step = step_of(checkpoint) if checkpoint else 0
    cut = cut_back(recipe.out, step if checkpoint else -1)
    again = f" ({cut} later lines of metrics are removed and logged again)" if cut else ""
    where = f"after step {step}" if checkpoint else "from the beginning: there is no checkpoint yet"
    notify(f"Continuing {recipe.out} {where}{again}.")
    return checkpoint


def _differing(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Settings with other values, as (key, before, now); those in CHANGEABLE left out."""
    if key in CHANGEABLE or before == now:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _differing(before.get(name), now.get(name), f"{key}.{name}" if key else name)
        return
    yield key, before, now
