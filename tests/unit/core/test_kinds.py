"""Every kind of field through every layer: what was written is allowed, read back, stored, scored and described."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phisight.core.errors import EmptyFieldError, TaskError
from phisight.core.kinds import KINDS, FieldValue, Known
from phisight.core.task import Task
from phisight.core.task_field import TaskField
from phisight.data.values.typed_columns import arrow_type, typed_column
from phisight.evaluate.metrics import deciding, field_deciding, field_metrics, metrics_of, row_error
from phisight.generate.grammar import Grammar
from tests.helpers.kind_values import EXAMPLES, FIELDS, VALUES, covers_every_kind, field, known_of

TEMPLATES = ["{it}", "It: {it}, More: {more}", "{it} ({more})", "A {more}; it is {it}!"]


def task_of(short: str, template: str = "{it}", optional: bool = False) -> Task:
    fields = {"it": short.replace(":", "?:", 1) if optional and ":" in short else short + "?" * optional}
    return Task(answer=template, fields=fields | ({"more": "text"} if "{more}" in template else {}))


def test_the_cases_cover_every_kind() -> None:
    assert covers_every_kind()


def holds_the_template(task: Task, value: Any) -> bool:
    """Whether a text ends early, at what stands between its field and the next; behind the last one it may end so."""
    behind, _, after = task.answer.split("{it}")[1].partition("{")
    behind = behind.strip() if after else ""
    return bool(value is not None and behind and behind in task.fields["it"].write(value))


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("short", FIELDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_value_is_written_allowed_and_read_back(short: str, optional: bool, data: st.DataObject) -> None:
    """value -> text of the answer -> the constrained grammar accepts -> parser -> equal value."""
    template = data.draw(st.sampled_from(TEMPLATES))
    task = task_of(short, template, optional)
    value = data.draw(st.none() | VALUES[short] if optional else VALUES[short])
    row = {"it": value, "more": "some more"}
    if short in ("text", "list") and holds_the_template(task, value):
        with pytest.raises(TaskError, match="cannot be read back"):
            task.render(row)
        return
    text = task.render(row)
    parsed = task.parse(text).values
    assert parsed is not None
    assert parsed["it"] == task.values(row)["it"]
    assert type(parsed["it"]) is type(task.values(row)["it"])
    grammar = Grammar.of_known(task, {"it": known_of(short, [task.values(row)["it"]])})
    assert grammar.complete(grammar.walk(grammar.start, text.encode())), text
    assert (
        not {"e", "E"} & set(text) or KINDS[short.split(":")[0]].storage != "double" or template != "{it}" or optional
    )


@pytest.mark.slow
@pytest.mark.parametrize("short", FIELDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_grammar_allows_is_read(short: str, data: st.DataObject) -> None:
    """A walk through the allowed bytes, drawn, ends in a text that the parser takes."""
    task = task_of(short, "It: {it}, More: {more}", optional=True)
    values = [data.draw(VALUES[short])]
    grammar = Grammar.of_known(task, {"it": known_of(short, values)})
    draw, states, text = data.draw(st.randoms(use_true_random=False)), grammar.start, b""
    while not grammar.complete(states):
        if len(text) > 60:
            states = grammar.leave_text(states)
        allowed = [byte for byte in range(256) if grammar.step(states, byte)]
        assert allowed, (text, "is a dead end")
        byte = draw.choice(allowed)
        states, text = grammar.step(states, byte), text + bytes([byte])
        assert len(text) < 3000
    parsed = task.parse(text.decode())
    assert parsed.values is not None, (parsed.reason, text)


@pytest.mark.parametrize("short", FIELDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_value_is_stored_and_described(short: str, data: st.DataObject) -> None:
    one, value = field(short), data.draw(VALUES[short])
    column = typed_column([value, None], one)
    column.validate(full=True)
    assert column.type.equals(arrow_type(one))
    assert [one.typed(value), None] == [one.typed(cell) if cell is not None else None for cell in column.to_pylist()]
    assert pa.array([column.to_pylist()[0]], arrow_type(one)).equals(column.slice(0, 1))
    again = one.typed(json.loads(json.dumps(one.rules.as_json(one.typed(value)))))
    assert again == one.typed(value)
    assert fits(one.rules.schema(known_of(short, [value]), one), one.rules.as_json(one.typed(value)))


def fits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a JSON value is of a schema, as far as the kinds write schemas."""
    names = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list}
    assert set(schema) <= {"type", "enum", "format", "items"}
    plain = isinstance(value, names[schema["type"]])  # type: ignore[arg-type]
    own = value in schema.get("enum", [value])
    day = schema.get("format") != "date" or datetime.date.fromisoformat(value) is not None
    entries = value if "items" in schema else []
    return plain and own and day and all(fits(schema["items"], entry) for entry in entries)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_metrics_a_baseline_and_a_decision(kind: str) -> None:
    values = list(EXAMPLES[kind]) * 2
    names = [metric.name for metric in metrics_of(kind)]
    assert len(names) == len(set(names)) >= 2
    assert deciding(kind).complete
    for metric in metrics_of(kind):
        right, swapped = (metric(values, answers, 1.0) for answers in (values, values[::-1]))
        silent = metric(values, [None] * len(values), 1.0)
        assert right is not None
        assert swapped is None or swapped == right or metric.higher_is_better == (right > swapped), metric.name
        assert (silent is not None) == metric.complete, metric.name
    decides = deciding(kind)
    assert decides(values, values) != decides(values, values[::-1])
    typical = KINDS[kind].typical(values)
    assert field(kind).typed(typical) == typical
    number = KINDS[kind].to_number(values[0])
    assert number is None or KINDS[kind].of_number(number) == pytest.approx(values[0]) or kind == "date"


@pytest.mark.parametrize("kind", KINDS)
def test_an_optional_field_is_scored_on_its_own(kind: str) -> None:
    task = task_of(kind, optional=True)
    one, other = EXAMPLES[kind]
    truth: list[FieldValue] = [one, one, None, None]
    figures = {metric.name: metric for metric in field_metrics(task, "it")}
    perfect, invented, missed = [*truth], [one, one, other, None], [one, None, None, None]
    assert [figures["invented"](truth, answers) for answers in (perfect, invented, missed)] == [0.0, 0.5, 0.0]
    assert [figures["missed"](truth, answers) for answers in (perfect, invented, missed)] == [0.0, 0.0, 0.5]
    decides = field_deciding(task, "it")
    assert decides(truth, perfect) == decides(truth, invented) != decides(truth, missed)
    assert decides.values(truth, perfect, 0.0).rows.tolist() == [0, 1]
    assert decides([None, None], [one, None]) is None
    errors = [
        row_error(task, {"it": wanted}, {"it": given}) for wanted, given in ((None, one), (one, None), (None, None))
    ]
    assert errors == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("empty", [None, "", "  ", float("nan"), [], "none", "None"])
def test_no_value_is_a_word_of_the_template(kind: str, empty: Any) -> None:
    task = task_of(kind, optional=True)
    assert task.render({"it": empty}) == "none"
    assert task.parse("none").values == {"it": None}
    assert task.as_json({"it": None}) == {"it": None}
    assert {"type": "null"} in task.answer_schema()["properties"]["it"]["anyOf"]
    if not isinstance(empty, str) or not empty.strip():
        with pytest.raises(EmptyFieldError, match="'it' is empty"):
            task_of(kind).render({"it": empty})


@pytest.mark.parametrize(
    ("short", "cell", "message"),
    [
        ("integer", "3.5", "'it' should be an integer but holds '3.5'"),
        ("integer", 12345678901234567.0, "should be an integer"),
        ("integer", "007", "whose zeros would be lost; make it text"),
        ("integer", 2**63, "at most 64 bits"),
        ("integer", "1" * 4000, "should be an integer"),
        ("number", "cheap", "should be a number"),
        ("date", "2023-02-29", "'it' should be a date but holds '2023-02-29'"),
        ("date", "03/04/2024", "should be a date"),
        ("boolean", "maybe", "should be yes or no"),
        ("boolean", 2, "should be yes or no"),
        ("list", [["a"]], "should be a list"),
        ("list", ["a;b"], "cannot be read back"),
    ],
)
def test_a_cell_of_another_kind_is_named(short: str, cell: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task_of(short).render({"it": cell})


@pytest.mark.parametrize(
    ("short", "text", "reason"),
    [
        ("integer", "3.0", "field 'it' is no integer: '3.0'"),
        ("integer", "9" * 30, "field 'it' is no integer of at most 64 bits: '999999999999999999999999999999'"),
        ("date", "2023-02-29", "field 'it' is no date: '2023-02-29'"),
        ("date", "29.2.2024", "field 'it' is no date: '29.2.2024'"),
        ("boolean", "perhaps", "field 'it' is neither yes nor no: 'perhaps'"),
        ("list", "a; ; b", "field 'it' is no list (an entry is empty): 'a; ; b'"),
        ("number", "1e999", "field 'it' is no number: too large"),
    ],
)
def test_an_answer_of_another_kind_is_not_read(short: str, text: str, reason: str) -> None:
    assert task_of(short).parse(text).reason == reason


def test_numbers_are_written_without_an_exponent() -> None:
    task = task_of("number")
    written = [task.render({"it": value}) for value in (1e14, 1e-7, 470, -0.0, 12.99)]
    assert written == ["100000000000000.0", "0.0000001", "470.0", "0.0", "12.99"]
    with pytest.raises(TaskError, match="too large"):
        task.render({"it": 1e22})


def test_an_integer_is_exact_and_no_number() -> None:
    task = task_of("integer")
    assert task.render({"it": "12345678901234567"}) == "12345678901234567"
    assert task.render({"it": 3.0}) == task.render({"it": "3.0"}) == "3"
    assert task.parse("1,234").values == {"it": 1234}


@pytest.mark.parametrize(
    ("short", "meaning"),
    [
        ("number?:2", {"kind": "number", "optional": True, "decimals": 2}),
        ("number:2?", {"kind": "number", "optional": True, "decimals": 2}),
        ("list:category?", {"kind": "list", "optional": True, "of": "category"}),
        ("date", {"kind": "date"}),
    ],
)
def test_the_short_form(short: str, meaning: dict[str, Any]) -> None:
    assert field(short) == TaskField(**meaning)
    assert field(field(short).short) == field(short)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "nmber"}, "did you mean 'number'"),
        ({"kind": "date:2"}, "only number:DECIMALS and list:category"),
        ({"kind": "list", "separator": "and"}, "must be one sign"),
        ({"kind": "text", "separator": "| "}, "option of a list, not of this text"),
        ({"kind": "text", "absent": "-"}, "option of an optional field"),
        ({"kind": "text", "optional": True, "absent": " a  b"}, "cannot stand for no value"),
    ],
)
def test_options_that_do_not_fit_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Task(answer="{it}", fields={"it": values})


def test_a_card_names_new_options_only_where_they_are_used() -> None:
    """So that data sets, logs and runs of earlier versions keep their names and hashes."""
    plain = Task()
    assert plain.fields["title"].model_dump() == {"kind": "text", "decimals": None}
    task = task_of("list:category", optional=True)
    assert task.model_dump()["fields"]["it"] == {"kind": "list", "decimals": None, "optional": True, "of": "category"}
    assert Task.model_validate_json(task.model_dump_json()) == task


def test_a_category_list_needs_its_values() -> None:
    with pytest.raises(TaskError, match="no values are known for the list field 'it'"):
        Grammar.of_known(task_of("list:category"), {"it": Known()})
