"""The public functions of phisight: what the commands do, from Python.

load(name)              a model that reads typed fields off images
build_dataset(...)      phisight data build
train_model(...)        phisight train
evaluate_model(...)     phisight evaluate
export_model(...)       phisight export: ``phisight.workflows.export``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phisight.core.settings import Recipe
    from phisight.extraction.extractor import Extractor


def load(
    name: str | Path, *, data: str | Path | None = None, dtype: str = "auto", constrained: bool | None = None
) -> Extractor:
    """Load a model that reads typed fields off images.

    Args:
        name: A run folder, the folder of an export or of adapters, or a hub name.
        data: Data set folder whose task a model without a task file of its own is asked.
        dtype: ``float32``, ``bfloat16``, or ``auto`` for the type that was scored.
        constrained: Whether answers are held to the template; None means as the run was evaluated.

    Raises:
        PhisightError: No such model, or nothing says what it is asked; one line with the repair.
    """
    from phisight.workflows.extract import load_extractor

    return load_extractor(name, data=data, dtype=dtype, constrained=constrained)


def build_dataset(source: str | Path, out: str | Path, **options: Any) -> Path:
    """Build a data set folder from a source; returns it. Also in a notebook, whose event loop is running.

    Args:
        source: A table, folder or ``hf:owner/name``, as ``phisight data build`` takes it.
        out: The data set folder to make.
        options: Settings of ``phisight.data.build.plan.config.BuildOptions`` by name.
    """
    from dataclasses import fields

    from phisight.core.errors import SettingsError, some
    from phisight.data.build.build_dataset import build
    from phisight.data.build.plan.config import BuildOptions

    known = [one.name for one in fields(BuildOptions)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise SettingsError(f"build_dataset knows no option {some(unknown)}; it knows {', '.join(known)}")
    _without_loop(partial(build, str(source), Path(out), BuildOptions(**options)))
    return Path(out)


def _without_loop(work: Callable[[], Any]) -> None:
    """Do work that runs an event loop of its own: in a thread where this one runs a loop already, as in a notebook."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(work).result()


def train_model(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Train as a recipe says; returns the run folder.

    Args:
        recipe: A YAML file, nested settings, or a resolved recipe.
        overrides: ``key=value`` settings that win over the recipe's.
        overwrite: Whether a run in the folder is replaced.
        resume: Whether a run in the folder continues.
    """
    from phisight.core.recipe import load_recipe, recipe_from
    from phisight.core.settings import Recipe
    from phisight.workflows.train import train

    if isinstance(recipe, Recipe):
        resolved = recipe_from(recipe.model_dump(mode="json"), overrides)
    elif isinstance(recipe, Mapping):
        resolved = recipe_from(recipe, overrides)
    else:
        resolved = load_recipe(Path(recipe), overrides)
    return train(resolved, overwrite=overwrite, resume=resume)


def evaluate_model(
    name: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    base_model_rows: int = 100,
    **settings: Any,
) -> dict[str, Any]:
    """Score a model on rows that it was not trained on; returns what ``scores.json`` holds.

    Args:
        name: A run folder; or any other model, with ``data`` and ``out``.
        data: Data set folder; None means the run's own.
        out: Folder for the results of a model that is no run, which keeps its own.
        base_model_rows: Rows of a run that the model before training answers, too.
        settings: Settings of ``evaluate`` by name, such as ``split="test"``, ``rows=100``.

    Raises:
        PhisightError: A setting that is none, or a part that is missing.
    """
    from phisight.core.errors import SettingsError
    from phisight.core.recipe import changed, recipe_from
    from phisight.export.subject import is_run, read_run
    from phisight.workflows import evaluate

    run = Path(name)
    if is_run(run):
        if out is not None:
            raise SettingsError(f"{run} is a run and keeps its own results; leave out the argument out")
        chosen = changed(read_run(run).evaluate, **settings)
        return evaluate.evaluate_run(
            run, data=Path(data) if data is not None else None, settings=chosen, base_model_rows=base_model_rows
        )
    if data is None or out is None:
        raise SettingsError(
            f"{name} is no run folder; name a data set folder in data and a folder for the results in out"
        )
    recipe = recipe_from({"out": str(out), "model": {"name": str(name)}, "data": {"path": str(data)}})
    return evaluate.evaluate_model(recipe.model_copy(update={"evaluate": changed(recipe.evaluate, **settings)}))
