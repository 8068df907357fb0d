"""A task from a YAML file; whatever is wrong with it is one line, with the key that was probably meant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phisight.core.errors import PhisightError, SettingsError, nearest, some
from phisight.core.read_files import read_yaml
from phisight.core.task import Task
from phisight.core.task_field import TaskField
from phisight.data.build.plan.columns import kinds_by_name, task_of_fields


def read_task(path: Path) -> Task:
    """A task from a YAML file with the keys prompt, answer and fields; SettingsError when it cannot be read."""
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise SettingsError(f"there is no task file {path}") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} holds no task: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} holds a {type(values).__name__}, no task (prompt, answer, fields)")
    problems = _unknown_keys(values)
    if problems:
        raise SettingsError(f"{path}: {'; '.join(problems)}")
    try:
        return Task.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{path}: {'; '.join(_sentence(one) for one in error.errors())}") from error
    except PhisightError as error:
        raise SettingsError(f"{path}: {error}") from error


def task_of_options(file: Path | None, fields: list[str], answer: str | None, prompt: str | None) -> Task | None:
    """The task given by options, None when it is to be guessed; SettingsError or TaskError when it makes no sense."""
    if file is not None:
        if fields or answer or prompt:
            raise SettingsError("--task FILE holds prompt, answer and fields; leave --field, --answer and --prompt out")
        return read_task(file)
    if not fields:
        if answer is not None:
            raise SettingsError("--answer needs a --field NAME:KIND for each {name} in it")
        return None
    return task_of_fields(kinds_by_name(fields), answer, prompt)


def _unknown_keys(values: Mapping[Any, Any]) -> list[str]:
    """A sentence for each key of the task or of a field that there is not."""
    problems = [_unknown(str(key), list(Task.model_fields), "") for key in values if key not in Task.model_fields]
    fields = values.get("fields")
    for name, field in fields.items() if isinstance(fields, Mapping) else ():
        for key in field if isinstance(field, Mapping) else ():
            if key not in TaskField.model_fields:
                problems.append(_unknown(str(key), list(TaskField.model_fields), f"fields.{name}."))
    return problems


def _unknown(key: str, known: list[str], where: str) -> str:
    near = nearest(key, known)
    meant = f", did you mean {near!r}?" if near else f"; keys are {some(known, 20)}"
    return f"unknown key '{where}{key}'{meant}"


def _sentence(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "the task"
    return f"{key} = {str(error.get('input'))[:40]!r}: {error['msg']}"
