"""The request of ``/v1/extract``, and a task as a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from phisight.core.kinds import Known
from phisight.core.task import Task

ANNOTATIONS = {"title", "description", "default", "examples", "$schema", "$id", "$comment"}


class TypedRequest(BaseModel):
    """Images of one thing, whose fields are wanted."""

    model_config = ConfigDict(extra="forbid")

    images: list[str] = Field(min_length=1, max_length=256, description="Data URLs (or addresses where allowed).")
    model: str | None = Field(default=None, max_length=1000)
    stream: bool = Field(default=False, description="Send the answer's text as it is written, as server-sent events.")


def schema_of(task: Task, categories: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The JSON schema of a task's fields; ``categories`` are the values that answers are held to."""
    known = {name: Known(values) for name, values in categories.items()}
    return {"title": "fields", "description": task.prompt, **task.answer_schema(known)}


def asks_for_task(schema: Any, task_schema: Mapping[str, Any]) -> bool:
    """Whether every answer of the task is one of this schema: the same fields, each as wide or wider."""
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        return False
    if set(schema) - ANNOTATIONS - {"type", "properties", "required", "additionalProperties"}:
        return False
    own: Mapping[str, Any] = task_schema["properties"]
    asked = schema.get("properties")
    if not isinstance(asked, Mapping) or set(asked) != set(own):
        return False
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(one, str) and one in own for one in required):
        return False
    return all(_as_wide(asked[name], kind) for name, kind in own.items())


def _as_wide(asked: Any, own: Mapping[str, Any]) -> bool:
    if not isinstance(asked, Mapping):
        return False
    plain = {key: value for key, value in asked.items() if key not in ANNOTATIONS}
    if "anyOf" in own:
        options = plain.get("anyOf")
        return isinstance(options, list) and all(any(_as_wide(one, kind) for one in options) for kind in own["anyOf"])
    if own["type"] == "array":
        entries = plain.get("items", {"type": "string"})
        return set(plain) <= {"type", "items"} and plain.get("type") == "array" and _as_wide(entries, own["items"])
    if "enum" not in plain:
        wider = [{"type": "number"}] if own["type"] == "integer" else []
        return plain in [own, {"type": own["type"]}, *wider]
    every = plain["enum"]
    return (
        "enum" in own
        and isinstance(every, list)
        and set(plain) <= {"type", "enum"}
        and plain.get("type", own["type"]) == own["type"]
        and all(value in every for value in own["enum"])
    )
