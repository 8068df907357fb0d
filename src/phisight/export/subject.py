"""A name to what it stands for: a run, an export or model folder, a folder of adapters, or a hub name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phisight.core.errors import CheckpointError, RunError
from phisight.core.read_files import read_object
from phisight.core.recipe import read_config
from phisight.core.run_folder import BEST, CONFIG
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.export.merge import ADAPTER_CONFIG
from phisight.export.origins import Origin, Origins

TINY = "tiny"
"""Name of the model that is made anew."""


@dataclass(frozen=True)
class Subject:
    """Where the parts of a model lie."""

    name: str
    """As it was given."""
    folder: Path | None
    """Folder with processor, task file and number head; None for a hub name."""
    weights: str
    """Folder or hub name of whole weights: the model itself, or the base of the adapters."""
    adapters: Path | None = None
    """Folder of adapters that go onto the weights."""
    run: Path | None = None
    recipe: Recipe | None = None

    @property
    def processor(self) -> str:
        """Folder or hub name of the processor."""
        if self.folder is not None and (self.folder / "tokenizer_config.json").is_file():
            return str(self.folder)
        return self.weights


def subject_of(name: str | Path) -> Subject:
    """Find out what a name stands for; RunError or CheckpointError where parts are missing."""
    folder = Path(name)
    if is_run(folder):
        recipe = read_trained_run(folder)
        best = folder / BEST
        if not (best / ADAPTER_CONFIG).is_file():
            return Subject(str(name), best, str(best), run=folder, recipe=recipe)
        return Subject(str(name), best, base_of_run(folder, recipe), best, folder, recipe)
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        return Subject(str(name), folder, base_of_adapters(folder), folder)
    if folder.is_dir():
        return Subject(str(name), folder, str(folder))
    return Subject(str(name), None, str(name))


def is_run(folder: Path) -> bool:
    """Whether a name is meant as a run folder: it has a recipe, or it is a folder that is no model either."""
    return (folder / CONFIG).is_file() or (folder.is_dir() and not is_model(folder))


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model or adapters."""
    return (folder / "config.json").is_file() or (folder / ADAPTER_CONFIG).is_file()


def read_run(run: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The resolved recipe of a run folder, with ``key=value`` overrides; RunError where the folder is no run."""
    if not (run / CONFIG).is_file():
        raise RunError(f"{run} is no run folder: it has no {CONFIG}; name the folder that `phisight train` wrote")
    return read_config(run / CONFIG, overrides)


def read_trained_run(run: Path) -> Recipe:
    """The resolved recipe of a run that has a best checkpoint; RunError where there is none."""
    recipe = read_run(run)
    if not is_model(run / BEST):
        raise RunError(
            f"{run} has no checkpoint: {run / BEST} is missing or empty; train it, or wait until training has ended"
        )
    return recipe


def base_of_run(run: Path, recipe: Recipe) -> str:
    """The model that a run's adapters go onto; RunError where it is no longer at hand."""
    noted = Origins.read(run).model
    return noted.find("base model", run) if noted else recipe.model.name


def base_of_adapters(folder: Path) -> str:
    """The model that a folder of adapters names; CheckpointError where it names none."""
    noted = Origins.read(folder).model
    try:
        settings: dict[str, Any] = read_object(folder / ADAPTER_CONFIG)
        named = settings.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / ADAPTER_CONFIG} cannot be read ({error}); copy the adapters again") from error
    if not named:
        raise CheckpointError(
            f"{folder} holds adapters alone and does not say onto which model they go; write the folder or hub name of "
            f"the base into base_model_name_or_path of {folder / ADAPTER_CONFIG}"
        )
    beside = folder / named
    if beside.is_dir():
        return str(beside)
    if noted is not None and noted.name == named:
        return noted.find("base model", folder)
    return str(named)


def data_of_run(run: Path, recipe: Recipe) -> Path:
    """The data set of a run, where it is now; the recipe's own path where the run notes no other."""
    noted = Origins.read(run).data
    try:
        return Path(noted.find("data set", run)) if noted else recipe.data.path
    except RunError:
        return recipe.data.path


def origins_of(recipe: Recipe, folder: Path, base: str | Path | None = None) -> Origins:
    """Base model and data set of a recipe, described for a folder; ``base`` stands for the recipe's model."""
    name = recipe.model.name if base is None else base
    model = None if name == TINY else Origin.of(name, folder)
    return Origins(model=model, data=Origin.of(recipe.data.path, folder))


def require_task(subject: Subject, found: Task | None) -> Task:
    """The task; RunError where neither the model nor a data set says what to ask."""
    if found is None:
        raise RunError(
            f"{subject.name} says nowhere what it is asked: it is no run and has no task.json; name a data set folder "
            "with --data DIR, or export it from its run"
        )
    return found
