"""A JSON schema to the values it allows. What cannot be held is refused by name, never ignored.

Members come in the order of ``properties``; a key that the schema does not name is never written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from phisight.core.errors import SettingsError, some
from phisight.generate.decoding.json_nodes import NEVER, Array, Literal, Node, Number, Object, OneOf, Text, measure

_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_ANNOTATIONS |= {"$schema", "$id", "$comment", "$defs", "definitions"}
_OF_KIND = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum"},
    "boolean": set(),
    "null": set(),
}
_KINDS = tuple(_OF_KIND)
MOST_NODES = 2_000
MOST_DEPTH = 32
MOST_COUNT = 1_000
"""Largest minLength, maxLength, minItems and maxItems; most values of a range or enum."""


def node_of(schema: Any) -> Node:
    """The values of a schema; SettingsError names the first keyword that cannot be held, and where it stands."""
    root = _Reader(schema).read(schema, "schema", 0)
    measure(root)
    if root.least >= NEVER:
        raise SettingsError("schema: no value fits it that has an end; a definition must not need itself")
    return root


def any_object() -> Node:
    """Any JSON object."""
    return Object([], _any_value())


def _any_value() -> Node:
    options: list[Node] = [Text(), Number(), *(Literal(word) for word in (b"true", b"false", b"null"))]
    value = OneOf(options)
    options += [Object([], value), Array(value)]
    return value


class _Reader:
    """Reads one schema; references are read once."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._named: dict[str, OneOf] = {}
        self._nodes = 0

    def read(self, schema: Any, where: str, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > MOST_DEPTH:
            raise SettingsError(f"{where}: more than {MOST_NODES} parts, or deeper than {MOST_DEPTH}")
        if schema is True or schema == {}:
            return _any_value()
        if not isinstance(schema, Mapping):
            raise SettingsError(f"{where}: a schema is an object, not {type(schema).__name__}")
        keys = set(schema) - _ANNOTATIONS
        if "$ref" in keys:
            _only(keys, {"$ref"}, where)
            return self._reference(schema["$ref"], where, depth)
        if "anyOf" in keys:
            _only(keys, {"anyOf"}, where)
            every = _listed(schema["anyOf"], f"{where}.anyOf")
            return OneOf([self.read(one, f"{where}.anyOf[{n}]", depth + 1) for n, one in enumerate(every)])
        if "const" in keys:
            _only(keys, {"const", "type"}, where)
            return _values([schema["const"]], schema, where)
        if "enum" in keys:
            _only(keys, {"enum", "type"}, where)
            return _values(_listed(schema["enum"], f"{where}.enum"), schema, where)
        if "type" not in keys:
            _only(keys, set(), where)
            return _any_value()
        return self._of_kinds(schema, keys, where, depth)

    def _of_kinds(self, schema: Mapping[str, Any], keys: set[str], where: str, depth: int) -> Node:
        """A schema that states its type, or several."""
        kinds = [schema["type"]] if isinstance(schema["type"], str) else _listed(schema["type"], f"{where}.type")
        if len(kinds) == 1:
            return self._typed(kinds[0], schema, keys, where, depth)
        _only(keys, {"type"}.union(*(_OF_KIND.get(str(kind), set()) for kind in kinds)), where)
        options: list[Node] = []
        for kind in kinds:
            own = {"type", *_OF_KIND.get(str(kind), set())} & keys
            options.append(self._typed(kind, schema, own, where, depth + 1))
        return OneOf(options)

    def _reference(self, name: Any, where: str, depth: int) -> Node:
        if not isinstance(name, str) or not name.startswith("#"):
            raise SettingsError(f"{where}.$ref: {str(name)[:80]!r} is outside the schema; only #/... can be followed")
        known = self._named.get(name)
        if known is None:
            target = self._root
            for part in name.removeprefix("#").split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(target, Mapping) or key not in target:
                    raise SettingsError(f"{where}.$ref: the schema has no {name[:80]!r}")
                target = target[key]
            known = self._named[name] = OneOf([])
            known.options.append(self.read(target, name, depth + 1))
        return known

    def _typed(self, kind: Any, schema: Mapping[str, Any], keys: set[str], where: str, depth: int) -> Node:
        if kind not in _KINDS:
            raise SettingsError(f"{where}.type: {str(kind)[:40]!r} is none of {some(_KINDS, 9)}")
        _only(keys, {"type"} | _OF_KIND[kind], where)
        if kind == "object":
            return self._object(schema, where, depth)
        if kind == "array":
            fewest, most = _bounds(schema, "minItems", "maxItems", where)
            return Array(self.read(schema.get("items", True), f"{where}.items", depth + 1), fewest, most)
        if kind == "string":
            fewest, most = _bounds(schema, "minLength", "maxLength", where)
            return Text(fewest, most)
        if kind in ("integer", "number"):
            return _number(kind, schema, where)
        return OneOf([Literal(b"true"), Literal(b"false")]) if kind == "boolean" else Literal(b"null")

    def _object(self, schema: Mapping[str, Any], where: str, depth: int) -> Node:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping):
            raise SettingsError(f"{where}.properties: an object, not {type(properties).__name__}")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise SettingsError(f"{where}.required: a list of names")
        others = schema.get("additionalProperties", True)
        if unknown := [name for name in required if name not in properties]:
            raise SettingsError(f"{where}.required: {some(unknown)} is not among the properties")
        if not properties:
            if others is False:
                return Object([])
            return Object([], self.read(others, f"{where}.additionalProperties", depth + 1))
        if others not in (True, False):
            raise SettingsError(f"{where}.additionalProperties: true or false beside properties; no schema of its own")
        members = [
            (_json(str(name)), self.read(one, f"{where}.properties.{name}", depth + 1), name in required)
            for name, one in properties.items()
        ]
        return Object(members)


def _number(kind: str, schema: Mapping[str, Any], where: str) -> Node:
    """A number; a short range of whole ones value by value."""
    low, high = schema.get("minimum"), schema.get("maximum")
    for name, value in (("minimum", low), ("maximum", high)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise SettingsError(f"{where}.{name}: a number, not {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingsError(f"{where}.{name}: a finite number")
    if high is None and (low is None or low == 0):
        return Number(whole=kind == "integer", signed=low is None)
    if low is not None and high is not None and kind == "integer":
        first, last = math.ceil(low), math.floor(high)
        if 0 <= last - first < MOST_COUNT:
            return OneOf([Literal(str(value).encode()) for value in range(first, last + 1)])
    raise SettingsError(
        f"{where}: minimum {low} and maximum {high} cannot be held; minimum 0 alone can, and a range of up to "
        f"{MOST_COUNT} integers"
    )


def _values(values: list[Any], schema: Mapping[str, Any], where: str) -> Node:
    """Given values; those of the stated type where one is stated."""
    if len(values) > MOST_COUNT:
        raise SettingsError(f"{where}.enum: {len(values)} values, more than {MOST_COUNT}")
    kinds = schema.get("type", list(_KINDS))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fitting = [value for value in values if any(_is(value, kind) for kind in kinds)]
    if not fitting:
        raise SettingsError(f"{where}: none of its values is of the type {some(kinds)}")
    return OneOf([Literal(_json(value)) for value in fitting])


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of a JSON type."""
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and float(value).is_integer())
    return kind == ("string" if isinstance(value, str) else "array" if isinstance(value, list) else "object")


def _bounds(schema: Mapping[str, Any], low: str, high: str, where: str) -> tuple[int, int | None]:
    """Fewest and most of something that is counted."""
    for name in (low, high):
        value = schema.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_COUNT:
            raise SettingsError(f"{where}.{name}: {str(value)[:40]!r} is no whole number from 0 to {MOST_COUNT}")
    fewest, most = int(schema.get(low, 0)), schema.get(high)
    if most is not None and most < fewest:
        raise SettingsError(f"{where}: {low} {fewest} is more than {high} {most}")
    return fewest, most


def _only(keys: set[str], known: set[str], where: str) -> None:
    if unknown := sorted(keys - known):
        raise SettingsError(f"{where}: {some(unknown)} is not supported here")


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise SettingsError(f"{where}: a list that is not empty")
    return value


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise SettingsError("schema: a value that is no JSON") from error
