"""A name to what it stands for: a run, an export or model folder, a folder of adapters, or a hub name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from phisight.core.dataset_folder import CARD, DatasetCard
from phisight.core.errors import CheckpointError, RunError
from phisight.core.read_files import read_object
from phisight.core.recipe import read_config
from phisight.core.run_folder import BEST, CONFIG
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.export.merge import ADAPTER_CONFIG
from phisight.export.model_folder import PROCESSOR_FILES, HubAnswer, hub_answer, hub_options
from phisight.export.origins import Origin, Origins, fingerprint_of
from phisight.model.checkpoint import file_of
from phisight.model.configuration import check_model_config
from phisight.model.tiny import TINY_BASE, folder_or_name, packaged_folder

TINY = "tiny"
"""Name of the model that is made anew."""


@dataclass(frozen=True)
class Subject:
    """Where the parts of a model lie."""

    name: str
    """As it was given."""
    folder: Path | None
    """Folder with processor, task file and number head; None for whole weights on the hub."""
    weights: str
    """Folder or hub name of whole weights: the model itself, or the base of the adapters."""
    adapters: Path | None = None
    """Folder of adapters that go onto the weights."""
    run: Path | None = None
    recipe: Recipe | None = None
    under: tuple[Path, ...] = ()
    """Folders of adapters that go onto the weights before ``adapters``, innermost first."""
    revision: str | None = None
    """Commit, tag or branch of the weights; None for a folder, or the hub's newest."""

    @property
    def hub(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` for the weights."""
        return hub_options(self.weights, self.revision)

    @property
    def layers(self) -> tuple[Path, ...]:
        """Folders of all adapters in the order in which they are merged."""
        return (*self.under, self.adapters) if self.adapters is not None else ()

    @property
    def processor(self) -> str:
        """Folder or hub name of the processor."""
        if self.folder is not None and all((self.folder / name).is_file() for name in PROCESSOR_FILES):
            return str(self.folder)
        return self.weights

    @property
    def processor_hub(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` for the processor."""
        return self.hub if self.processor == self.weights else {}

    def file(self, name: str) -> Path | None:
        """A file beside the model, in its folder or on the hub; None where there is none."""
        return file_of(self.folder or self.weights, name, **({} if self.folder else self.hub))


def subject_of(name: str | Path, revision: str | None = None) -> Subject:
    """Find out what a name stands for; RunError or CheckpointError where parts are missing.

    Args:
        name: Run folder (or ``best`` in it), folder of a model or of adapters, ``tiny-base``, or hub name.
        revision: Commit, tag or branch of a hub name.
    """
    folder = folder_or_name(name)
    if folder.name == BEST and (folder.parent / CONFIG).is_file():
        folder = folder.parent
    if is_run(folder):
        recipe = read_trained_run(folder)
        best = folder / BEST
        if not (best / ADAPTER_CONFIG).is_file():
            return Subject(str(name), best, str(best), run=folder, recipe=recipe)
        base = subject_of(base_of_run(folder, recipe), recipe.model.revision)
        return _onto(base, Subject(str(name), best, "", best, folder, recipe))
    if folder.is_dir() and not _holds_adapters(folder):
        check_model_config(folder)
        return Subject(str(name), folder, str(folder))
    if not folder.is_dir():
        answer = hub_answer(str(name), revision)  # whoever loads it says that the hub is out of reach
        files = answer.files if isinstance(answer, HubAnswer) else []
        if "config.json" in files or ADAPTER_CONFIG not in files:
            return Subject(str(name), None, str(name), revision=revision)
        folder = _adapters_on_hub(str(name), revision)
    try:
        return _onto(subject_of(*base_of_adapters(folder)), Subject(str(name), folder, "", folder))
    except (CheckpointError, RunError) as error:
        raise base_is_missing(folder, error) from error


def base_is_missing(folder: Path, error: Exception) -> CheckpointError:
    """The error of adapters whose base cannot be had."""
    return CheckpointError(
        f"{folder} holds adapters alone, and their base cannot be loaded: {error}; write the folder or hub name of the "
        f"base into base_model_name_or_path of {folder / ADAPTER_CONFIG}"
    )


def _onto(base: Subject, top: Subject) -> Subject:
    """Adapters on their base, which may be adapters itself."""
    return replace(top, weights=base.weights, under=base.layers, revision=base.revision)


def _holds_adapters(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def _adapters_on_hub(name: str, revision: str | None) -> Path:
    try:
        wanted = ["*.json", "*.safetensors", "*.jinja"]
        return Path(snapshot_download(name, allow_patterns=wanted, **hub_options(name, revision)))
    except Exception as error:  # whatever the HTTP library calls it
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"the adapters {name!r} cannot be fetched from the hub ({reason}); try again") from error


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
    if noted and noted.name == TINY_BASE and noted.fingerprint not in (None, fingerprint_of(packaged_folder())):
        raise RunError(
            f"{run} was trained on the {TINY_BASE} of another version of phisight, and its adapters fit no other; "
            "install that version, or train again"
        )
    return noted.find("base model", run) if noted else recipe.model.name


def base_of_adapters(folder: Path) -> tuple[str, str | None]:
    """The model that a folder of adapters names, and its revision; CheckpointError where it names none."""
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
    if noted is not None and noted.name == TINY_BASE:
        return TINY_BASE, None
    beside = folder / named
    if beside.is_dir():
        return str(beside), None
    if noted is not None and noted.name == named:
        return noted.find("base model", folder), settings.get("revision")
    return str(named), settings.get("revision")


def find_data(run: Path, recipe: Recipe) -> Path:
    """The data set of a run, where it is now; RunError says in one line where it was looked for."""
    noted = Origins.read(run).data
    try:
        return Path(noted.find("data set", run)) if noted else recipe.data.path
    except RunError:
        if recipe.data.path.is_dir():  # built anew since
            return recipe.data.path
        raise


def data_of_run(run: Path, recipe: Recipe) -> Path:
    """The same, and the recipe's own path where the data set is nowhere."""
    try:
        return find_data(run, recipe)
    except RunError:
        return recipe.data.path


def task_of_run(run: Path, recipe: Recipe) -> Task:
    """The task of a run: the recipe's, else that of its data set, whose card is copied into the run folder."""
    return recipe.task or DatasetCard.read(run if (run / CARD).is_file() else recipe.data.path).task


def origins_of(recipe: Recipe, folder: Path, base: str | Path | None = None) -> Origins:
    """Base model and data set of a recipe, described for a folder; ``base`` stands for the recipe's model."""
    name = recipe.model.name if base is None else base
    return Origins(model=model_origin(name, folder), data=Origin.of(recipe.data.path, folder))


def model_origin(name: str | Path, folder: Path) -> Origin | None:
    """A base model described for a folder; None for ``tiny``, which is nowhere but in its run."""
    if name == TINY_BASE:  # without a place: the installation's is another on each machine
        return Origin(name=TINY_BASE, fingerprint=fingerprint_of(packaged_folder()))
    return None if name == TINY else Origin.of(name, folder)


def require_task(subject: Subject, found: Task | None) -> Task:
    """The task; RunError where neither the model nor a data set says what to ask."""
    if found is None:
        raise RunError(
            f"{subject.name} says nowhere what it is asked: it is no run and has no task.json; name a data set folder "
            "with --data DIR, or export it from its run"
        )
    return found
