"""Whatever tokens are chosen, an answer held to a schema is JSON that the schema allows, whole within its tokens."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
import torch

from phisight.core.errors import SettingsError
from phisight.generate.decoding.json_language import JsonLanguage, TokenTree
from phisight.generate.decoding.json_nodes import NEVER
from phisight.generate.decoding.json_schema import any_object, node_of
from phisight.generate.decoding.sampling import choose

END = 900
PIECES = [
    '{"',
    '": "',
    '", "',
    '"}',
    "ab",
    " price",
    "\u00e9",
    "\U0001f600",
    '\\"',
    "12",
    ".5",
    "true",
    "]}",
    '"',
    "null,",
]
TOKENS = {number: bytes([number]) for number in range(256)}
TOKENS |= {300 + number: piece.encode() for number, piece in enumerate(PIECES)}
TREE = TokenTree(TOKENS, [END])


def schemas(draw: random.Random, depth: int = 0) -> dict[str, Any]:
    """Random schemas of everything that can be held."""
    simple = ["string", "integer", "number", "boolean", "null", "enum", "const", "bounded", "range", "positive"]
    kind = draw.choice(simple + ([] if depth > 2 else ["object", "array", "anyOf", "types", "map"] * 3))
    if kind == "enum":
        return {"enum": draw.sample(["a", 'quo"te', 1, 2.5, None, True, [1], {"k": "v"}, "\u00e9", "line\nbreak"], 4)}
    if kind == "const":
        return {"const": draw.choice(["x", 0, {"deep": [None]}])}
    if kind == "bounded":
        low = draw.randint(0, 3)
        return {"type": "string", "minLength": low, "maxLength": low + draw.randint(0, 3), "title": "ignored"}
    if kind == "range":
        low = draw.randint(-9, 9)
        return {"type": "integer", "minimum": low, "maximum": low + draw.randint(0, 20)}
    if kind == "positive":
        return {"type": draw.choice(["number", "integer"]), "minimum": 0}
    if kind == "array":
        low = draw.randint(0, 2)
        most = {"maxItems": low + draw.randint(0, 2)} if draw.random() < 0.5 else {}
        return {"type": "array", "items": schemas(draw, depth + 1), "minItems": low, **most}
    if kind == "anyOf":
        return {"anyOf": [schemas(draw, depth + 1) for _ in range(draw.randint(1, 3))]}
    if kind == "types":
        return {"type": draw.sample(["string", "null", "integer", "boolean"], 2)}
    if kind == "map":
        return {"type": "object", "additionalProperties": schemas(draw, depth + 1)}
    if kind == "object":
        names = draw.sample(["name", "price", "a b", 'say "hi"', "\u00fc"], draw.randint(1, 4))
        return {
            "type": "object",
            "properties": {name: schemas(draw, depth + 1) for name in names},
            "required": draw.sample(names, draw.randint(0, len(names))),
            "additionalProperties": draw.random() < 0.5,
        }
    return {"type": kind}


def written(language: JsonLanguage, most: int, draw: random.Random) -> str:
    """An answer of random tokens among those allowed."""
    row, text = language.within(most).row(), b""
    for _ in range(most):
        token = draw.choice(row.allowed().tolist())
        if token == END:
            return text.decode()
        text += TOKENS[token]
        row.advance(token)
    raise AssertionError(f"no end within {most} tokens: {text!r}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_every_answer_validates(seed: int) -> None:
    draw = random.Random(seed)
    schema = schemas(draw)
    language = JsonLanguage(node_of(schema), TREE)
    for room in (0, draw.randint(1, 9), 60):
        text = written(language, language.least_tokens + room, draw)
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.slow
def test_a_schema_that_holds_itself() -> None:
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["value", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    }
    for seed in range(20):
        text = written(JsonLanguage(node_of(tree), TREE), 120, random.Random(seed))
        jsonschema.validate(json.loads(text), tree)


def test_any_object() -> None:
    for seed in range(20):
        assert isinstance(json.loads(written(JsonLanguage(any_object(), TREE), 40, random.Random(seed))), dict)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "pattern": "a+"}, "pattern"),
        ({"type": "string", "format": "date"}, "format"),
        ({"type": "number", "multipleOf": 2}, "multipleOf"),
        ({"type": "number", "exclusiveMinimum": 0}, "exclusiveMinimum"),
        ({"type": "number", "minimum": 3}, "minimum 3"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"oneOf": [{"type": "string"}]}, "oneOf"),
        ({"allOf": [{"type": "string"}]}, "allOf"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        (
            {"type": "object", "properties": {"a": {"type": "object", "minProperties": 1}}},
            "properties.a: minProperties",
        ),
        ({"type": "object", "required": ["b"]}, "b is not among"),
        ({"$ref": "https://example.org/schema"}, "outside the schema"),
        ({"$ref": "#/$defs/none"}, "has no"),
        ({"type": "text"}, "'text'"),
        ({"enum": []}, "enum"),
        ({"enum": ["a"], "type": "integer"}, "none of its values"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "more than"),
        ({"type": "string", "minLength": 10**9}, "minLength"),
        ([1], "list"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(SettingsError, match=r"^schema|^#") as caught:
        node_of(schema)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    ],
)
def test_a_schema_without_an_end_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="no value fits"):
        node_of(schema)


def test_a_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SettingsError, match="deeper than"):
        node_of(schema)


def test_a_value_without_an_end_is_measured_so() -> None:
    node = node_of({"type": "object", "properties": {"a": {"$ref": "#"}}})
    assert node.least < NEVER


def test_rows_of_one_schema_are_masked_together_each_within_its_own_room(monkeypatch: pytest.MonkeyPatch) -> None:
    language = JsonLanguage(node_of({"type": "string"}), TREE)
    masked: list[int] = []

    def counted(rows: Any, vocabulary: int, device: Any) -> torch.Tensor:
        masked.append(len(rows))
        return JsonLanguage.masks_of(language, rows, vocabulary, device)

    monkeypatch.setattr(language, "masks_of", counted)
    rooms = [language.least_tokens, 30, language.least_tokens, 5]
    rows = [language.within(room).row() for room in rooms]
    letter = ord("a")
    logits = torch.zeros(len(rows), END + 1)
    logits[:, letter] = 1.0
    for row in rows:
        row.advance(ord('"'))
    chosen = [one.token for one in choose(logits, rows, [None] * len(rows), [None] * len(rows))]
    assert masked == [len(rows)]
    assert chosen == [ord('"'), letter, ord('"'), letter]
