"""Begin a run folder, or continue the run that it holds."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from phisight.core import run_folder
from phisight.core.environment import environment
from phisight.core.errors import SettingsError
from phisight.core.recipe import read_config, write_recipe
from phisight.core.settings import Recipe
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.export.subject import TINY, subject_of
from phisight.export.write import write_whole
from phisight.model.tiny import TINY_BASE
from phisight.track import cut_back, forget
from phisight.train.acceleration.bfloat16 import with_number_type
from phisight.train.checkpoint.manifest import latest_valid, step_of
from phisight.train.checkpoint.training_state import TrainingState
from phisight.workflows.load import resolved_revision

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""File in a run folder that the process that trains holds locked."""

_HELD: dict[Path, object] = {}
"""Run folders that a training of this process holds, each with a token of that training."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HELD.clear)  # a forked process holds none of them

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
    "train.return_freed_memory",
    "evaluate",
    "track",
)
"""Settings that may change when a run continues: its curve stays the same (caches and micro-batches: to rounding).

That the data set holds the same rows, and that micro-batches make steps of the same size, is checked by the checkpoint.
"""


class OpenedRun(NamedTuple):
    """What a training does with its run folder."""

    recipe: Recipe
    """As it was given, with what is settled: the model's commit, the number type, more steps."""
    checkpoint: Path | None
    """To continue from; None begins."""
    continues: bool
    """The folder holds a run, which continues."""
    longer: bool = False
    """It continues beyond its planned steps."""


def open_run(
    recipe: Recipe, *, overwrite: bool, resume: bool, notify: Callable[[str], None], more_steps: int | None = None
) -> OpenedRun:
    """Decide what a training does with the recipe's run folder; nothing in it is changed yet: see ``begin_run``.

    With ``resume`` a folder without a run is begun; with ``more_steps`` the run continues for so many steps after those
    it has planned. SettingsError when the folder holds a run and neither is asked for, or when the recipe differs from
    the run's in what changes the curve.
    """
    has_run = holds_run(recipe.out)
    if more_steps is not None and not (resume and has_run):
        raise SettingsError(
            f"--set train.steps=+{more_steps} continues a run, and {recipe.out} holds none or --resume is missing; add "
            "--resume, or give the number of steps without +"
        )
    if resume and has_run:
        return _continue(recipe, notify, more_steps)
    if has_run and not overwrite:
        raise SettingsError(
            f"{recipe.out} already holds a run; continue it with --resume, choose another folder with --set out=DIR, "
            "or replace it with --overwrite"
        )
    model = recipe.model.model_copy(update={"revision": resolved_revision(recipe.model)})
    return OpenedRun(with_number_type(recipe.model_copy(update={"model": model})), None, continues=False)


def on_this_node(opened: OpenedRun, recipe: Recipe) -> OpenedRun:
    """What rank zero has decided, with the paths that ``recipe`` has on this node."""
    model = recipe.model.model_copy(update={"revision": opened.recipe.model.revision})
    settled = {"steps": opened.recipe.train.steps, "bf16": opened.recipe.train.bf16}
    train = recipe.train.model_copy(update=settled)
    checkpoint = opened.checkpoint and recipe.out / run_folder.CHECKPOINTS / opened.checkpoint.name
    return opened._replace(recipe=recipe.model_copy(update={"model": model, "train": train}), checkpoint=checkpoint)


def holds_run(run_dir: Path) -> bool:
    """Whether a folder holds a run that has reached a line of metrics, a checkpoint or the best model."""
    metrics = run_dir / run_folder.METRICS
    if metrics.is_file() and metrics.stat().st_size:
        return (run_dir / run_folder.CONFIG).exists()
    there = any((run_dir / name).exists() for name in (run_folder.CHECKPOINTS, run_folder.BEST))
    return there and (run_dir / run_folder.CONFIG).exists()


def begin_run(opened: OpenedRun, limits: AnswerLimits, notify: Callable[[str], None]) -> None:
    """Make the run folder ready, right before the first step: a start that fails earlier has left nothing in it.

    A run that begins records the ``limits`` of its answers; one that continues has done so, if it ever did.
    """
    run_dir, config = opened.recipe.out, opened.recipe.out / run_folder.CONFIG
    if opened.continues:
        step = step_of(opened.checkpoint) if opened.checkpoint else 0
        cut = cut_back(run_dir, step if opened.checkpoint else -1)
        again = f" ({cut} later lines of metrics are removed and logged again)" if cut else ""
        where = f"after step {step}" if opened.checkpoint else "from the beginning: there is no checkpoint yet"
        notify(f"Continuing {run_dir} {where}{again}.")
        if opened.checkpoint and not opened.longer and step >= TrainingState.read(opened.checkpoint).max_steps:
            notify(f"All {step} steps of {run_dir} are done; --set train.steps=+N continues it for N more.")
    else:
        run_dir.mkdir(parents=True, exist_ok=True)
        if holds_run(run_dir):  # it is replaced; results of a model that is no run stay
            run_folder.remove_results(run_dir)
        config.unlink(missing_ok=True)
        for folder in (run_folder.CHECKPOINTS, run_folder.BEST):
            shutil.rmtree(run_dir / folder, ignore_errors=True)
        forget(run_dir)
        run_folder.write_json(run_dir / run_folder.ENVIRONMENT, environment())
        limits.write(run_dir)
    if opened.longer or not opened.continues:
        run_folder.write_text_atomically(config, write_recipe(opened.recipe))


def _continue(recipe: Recipe, notify: Callable[[str], None], more_steps: int | None) -> OpenedRun:
    before = read_config(recipe.out / run_folder.CONFIG)
    checkpoint = latest_valid(recipe.out / run_folder.CHECKPOINTS, notify)
    revision = recipe.model.revision or before.model.revision
    if recipe.model.revision and recipe.model.revision != before.model.revision:
        revision = resolved_revision(recipe.model)
    bf16 = before.train.bf16 if recipe.train.bf16 == "auto" else recipe.train.bf16
    recipe = recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"revision": revision}),
            "train": recipe.train.model_copy(update={"bf16": bf16}),
        }
    )
    if more_steps is not None:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": before.train.steps})})
    differing = sorted(_differing(before.model_dump(mode="json"), recipe.model_dump(mode="json")))
    if differing:
        changes = ", ".join(f"{key} (was {was!r}, now {now!r})" for key, was, now in differing)
        raise SettingsError(
            f"the run in {recipe.out} was begun with other settings: {changes}; its curve would not continue. Give "
            "them their old values, or start a new run with --set out=DIR"
        )
    if more_steps is not None:
        if checkpoint is None:
            raise SettingsError(f"{recipe.out} has no checkpoint to continue from; give the number of steps without +")
        planned = before.train.steps or TrainingState.read(checkpoint).max_steps
        longer = recipe.train.model_copy(update={"steps": planned + more_steps})
        recipe = recipe.model_copy(update={"train": longer})
    return OpenedRun(recipe, checkpoint, continues=True, longer=more_steps is not None)


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder for this process; SettingsError at once where another one holds it.

    A POSIX record lock: it ends with its process, however that ends, and forked data workers do not hold it (those of
    ``flock`` and of open file descriptions they would). Within its process it refuses nothing, and whoever closes the
    file a second time drops it: two trainings of one process are told apart by ``_HELD``. Systems without such locks
    have that alone.
    """
    existed, place = run_dir.exists(), run_dir.resolve()
    if _HELD.setdefault(place, own := object()) is not own:
        raise SettingsError(
            f"another training of this process ({os.getpid()}) uses the run folder {run_dir}; wait for its end, or "
            "choose another folder with --set out=DIR"
        )
    try:
        with _locked(run_dir, existed=existed):
            yield
    finally:
        _HELD.pop(place, None)  # a process that was forked meanwhile leaves this block, too


@contextlib.contextmanager
def _locked(run_dir: Path, *, existed: bool) -> Iterator[None]:
    """Hold the lock file of a run folder."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK).open("a+", encoding="utf-8") as file:
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SettingsError(
                f"another training (process {file.read().strip() or 'unknown'}) uses the run folder {run_dir}; wait "
                "for its end, stop it, or choose another folder with --set out=DIR"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
            if not existed and [path.name for path in run_dir.iterdir()] == [LOCK]:
                shutil.rmtree(run_dir, ignore_errors=True)


def _differing(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Settings with other values, as (key, before, now); those in CHANGEABLE left out."""
    if key in CHANGEABLE or before == now:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _differing(before.get(name), now.get(name), f"{key}.{name}" if key else name)
        return
    yield key, before, now


def starting_point(opened: OpenedRun, notify: Callable[[str], None]) -> str:
    """The folder or hub name of the weights that training starts from.

    Adapters are merged into ``RUN/base`` first: what is trained on top of them needs a base that holds them.
    """
    recipe, base = opened.recipe, opened.recipe.out / run_folder.BASE
    if recipe.model.name in (TINY, TINY_BASE):
        return recipe.model.name
    subject = subject_of(recipe.model.name, recipe.model.revision)
    if subject.adapters is None:
        return subject.weights
    if not (opened.continues and base.is_dir()):
        notify(f"Merging the adapters of {subject.name} into {base}, which training starts from.")
        shutil.rmtree(base, ignore_errors=True)
        write_whole(subject, base, None if recipe.model.dtype == "auto" else getattr(torch, recipe.model.dtype))
    return str(base)


def from_weights(recipe: Recipe, start: str) -> Recipe:
    """The recipe with the weights to start from."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": start})})
