"""A recipe from YAML and ``--set key=value``.

    recipe = load_recipe(Path("recipe.yaml"), ["train.learning_rate=1e-4"])

Every problem of a recipe is gathered and raised at once; an unknown key comes with the nearest known one, an old key
with its new name. The recipe in a run folder (``read_config``) may be of any earlier version: its keys are translated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from phisight.core.errors import RunError, SettingsError, UnreadableFileError, nearest
from phisight.core.migrations import RUN_FORMAT, renamed, require_format, translate
from phisight.core.read_files import parse_yaml, read_yaml
from phisight.core.settings import Recipe, Settings
from phisight.core.task import Task

AnySettings = TypeVar("AnySettings", bound=Settings)

MORE_STEPS = re.compile(r"\s*train\.steps\s*=\s*\+(\d+)\s*")
FORMAT = "format"
"""Key of ``config.yaml`` beside the recipe's own."""


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply ``key=value`` overrides; SettingsError names every problem at once.

    A file with a ``format`` is the ``config.yaml`` of a run and read as ``read_config`` does.
    """
    if path is None:
        return recipe_from({}, overrides, source="the command line")
    values = _read_yaml(path)
    return recipe_from(current_config(values, path) if FORMAT in values else values, overrides, source=str(path))


def read_config(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The resolved recipe of a run folder, whichever version wrote it, with ``key=value`` overrides.

    Raises:
        RunError: A newer version wrote it.
        SettingsError: It holds no recipe, or an override cannot be used.
    """
    return recipe_from(current_config(_read_yaml(path), path), overrides, source=str(path))


def current_config(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Values of a ``config.yaml`` with current keys and without the format."""
    require_format(values.get(FORMAT), RUN_FORMAT, path, RunError)
    return translate("config", {key: value for key, value in values.items() if key != FORMAT})


def recipe_from(values: Mapping[str, Any], overrides: Sequence[str] = (), *, source: str = "the recipe") -> Recipe:
    """A recipe from nested values; see ``load_recipe``."""
    merged = _deep_copy(values)
    if merged.get("task") is None:
        merged.pop("task", None)
    for override in overrides:
        _apply(merged, override)
    # Without a task of its own, a recipe's --set task.KEY changes that of the data set, which is not known here.
    task_changes = merged.pop("task", None) if values.get("task") is None else None
    whole = task_changes is None or {"answer", "fields"} <= task_changes.keys()
    if whole and task_changes is not None:
        merged["task"] = task_changes
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(f"{source}: {_explained(error)}") from None
    if not whole:
        recipe.task_changes.update(task_changes or {})
    return recipe


def changed_task(task: Task, changes: Mapping[str, Any]) -> Task:
    """A task with some keys replaced; SettingsError names every problem."""
    try:
        return Task.model_validate({**task.model_dump(), **changes})
    except ValidationError as error:
        raise SettingsError(_explained(error, "task.")) from None


def split_more_steps(overrides: Sequence[str]) -> tuple[list[str], int | None]:
    """Overrides without ``train.steps=+N``, and N: by how many steps a run becomes longer."""
    more = [MORE_STEPS.fullmatch(one) for one in overrides]
    return [one for one, found in zip(overrides, more, strict=True) if not found], next(
        (int(found[1]) for found in more if found), None
    )


def changed(settings: AnySettings, **changes: Any) -> AnySettings:
    """A copy with some settings replaced; None leaves one as it is. SettingsError names every problem."""
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return type(settings).model_validate({**settings.model_dump(), **given})
    except ValidationError as error:
        raise SettingsError(_explained(error)) from None


def write_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, as a run folder's ``config.yaml`` holds it: its format, then every setting."""
    values = {FORMAT: RUN_FORMAT, **recipe.model_dump(mode="json")}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def known_keys() -> list[str]:
    """Every setting as a dotted key."""
    return list(_keys(Recipe))


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise SettingsError(f"there is no recipe {path}; recipes/ holds some to start from") from None
    except (OSError, UnreadableFileError) as error:
        raise SettingsError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values or {}, dict):
        raise SettingsError(f"{path} holds a {type(values).__name__}, not settings (key: value)")
    return cast(dict[str, Any], values or {})


def _deep_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _deep_copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override!r} is no key=value, as in --set train.learning_rate=1e-4")
    if MORE_STEPS.fullmatch(override):
        raise SettingsError(f"--set {override} continues a run; use it with phisight train --resume")
    *groups, last = key.strip().split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise SettingsError(f"--set {key}: {group!r} holds a value, not settings")
    values[last] = _scalar(text)


def _scalar(text: str) -> Any:
    value = parse_yaml(text, "the value of --set") if text.strip() else None
    if isinstance(value, str):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            return value
    return value


def _explained(error: ValidationError, group: str = "") -> str:
    """All problems, one for each setting of a group: of a setting of several kinds all kinds are named."""
    found: dict[str, dict[str, None]] = {}  # what is wrong, in order
    for one in error.errors():
        about, wrong = _explain(one)
        found.setdefault(about, {})[wrong] = None
    return "; ".join(f"{group}{about}{' or '.join(wrong)}" for about, wrong in found.items())


def _setting_of(place: Sequence[str | int]) -> str:
    """The setting of an error, without the kind or the index that it is about."""
    keys, known = [".".join(map(str, place[:end])) for end in range(1, len(place) + 1)], {*known_keys()} - {"task"}
    return next((key for key in keys if key in known), keys[-1] if keys else "")


def _as_written(value: Any) -> str:
    """A value as a recipe has it: null, true, 'text'."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value[:40] if isinstance(value, str) else value)[:42]


def _explain(error: Any) -> tuple[str, str]:
    """Which setting is meant, and what is wrong with its value; empty where the setting itself is wrong."""
    key = _setting_of(error["loc"])
    if error["type"] == "extra_forbidden":
        new = renamed("config", key)
        if new is None:
            return f"{key!r} is no setting any more; leave it out", ""
        if new != key:
            return f"{key!r} is now called {new!r}", ""
        meant = _nearest_setting(key)
        return f"unknown setting {key!r}" + (f", did you mean {meant!r}?" if meant else ""), ""
    return f"{key} = {_as_written(error.get('input'))}: ", error["msg"]


def _nearest_setting(key: str) -> str | None:
    """The known setting (or group of settings) that was probably meant."""
    known = known_keys()
    groups = sorted({name.split(".")[0] for name in known})
    for candidates in (groups if "." not in key else [], known):
        if near := nearest(key, candidates):
            return near
    last = {name.rsplit(".", 1)[-1]: name for name in known}
    near = nearest(key.rsplit(".", 1)[-1], last)
    return last[near] if near else None
