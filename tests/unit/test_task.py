"""The task writes answers and reads them back."""

import math

import pytest

from phisight.core.errors import EmptyFieldError, TaskError
from phisight.core.task import Task

ROW = {"title": "Vintage Check Scarf", "category3_code": "SCARVES", "full_price": 470.0}


def test_default_answer_is_the_study_s() -> None:
    assert Task().render(ROW) == "Product: Vintage Check Scarf, Category: SCARVES, Full Price: 470.0"


def test_what_was_written_is_read_back() -> None:
    assert Task().parse(Task().render(ROW)).values == ROW


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with 'Product:'"),
        ("Product: A, Price: 3", "', Category:' missing after field 'title'"),
        ("Product: A, Category: B, Full Price: cheap", "field 'full_price' is no number: 'cheap'"),
        ("Product: A, Category: B, Full Price:", "field 'full_price' is empty"),
        ("Product: , Category: B, Full Price: 1", "field 'title' is empty"),
    ],
)
def test_why_an_answer_cannot_be_read(text: str, reason: str) -> None:
    parsed = Task().parse(text)
    assert parsed.values is None
    assert parsed.reason == reason


def test_thousands_and_exponents_are_numbers() -> None:
    task = Task(answer="{price}", fields={"price": "number"})
    assert task.parse("1,290.50").values == {"price": 1290.5}
    assert task.parse("1e3").values == {"price": 1000.0}
    assert task.parse("1,29.5").values is None


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 40, "1e15", "-1,000,000,000,000,000", "1" + "0" * 400])
def test_a_number_beyond_what_a_float_holds_is_no_value(text: str) -> None:
    task = Task(answer="cost {price}", fields={"price": "number"})
    assert task.parse(f"cost {text}").reason == "field 'price' is no number: too large"
    with pytest.raises(TaskError, match=r"should be a finite number|too large"):
        task.render({"price": float(text.replace(",", ""))})


@pytest.mark.parametrize("price", [0.1, 1 / 3, 1e-7, 9e14, 12.99, -4.0])
def test_numbers_are_written_exactly(price: float) -> None:
    task = Task(answer="cost {price}", fields={"price": "number"})
    assert task.parse(task.render({"price": price})).values == {"price": price}


def test_decimals_round_what_is_written() -> None:
    task = Task(answer="cost {price}", fields={"price": {"kind": "number", "decimals": 0}})
    assert task.render({"price": 12.6}) == "cost 13"


def test_a_value_that_holds_the_separator_is_refused() -> None:
    with pytest.raises(TaskError, match="cannot be read back"):
        Task().render({**ROW, "title": "Scarf, Category: HATS"})


@pytest.mark.parametrize("empty", [None, "", "  ", math.nan])
def test_an_empty_field_is_named(empty: object) -> None:
    with pytest.raises(EmptyFieldError, match="'title' is empty"):
        Task().render({**ROW, "title": empty})


def test_text_in_a_number_field() -> None:
    with pytest.raises(TaskError, match="'full_price' should be a number but holds 'cheap'"):
        Task().render({**ROW, "full_price": "cheap"})


def test_missing_column_lists_the_table_s() -> None:
    with pytest.raises(TaskError, match="no column full_price; its columns are title, category3_code"):
        Task().values({"title": "A", "category3_code": "B"})


@pytest.mark.parametrize(
    ("answer", "fields", "message"),
    [
        ("nothing", {"a": "text"}, "has no {field}"),
        ("{a} and {b}", {"a": "text"}, "names a, b but the fields are a"),
        ("{a}{b}", {"a": "text", "b": "text"}, "two fields touch"),
        ("{a} {b}", {"a": "text", "b": "text"}, "two fields touch"),
    ],
)
def test_template_and_fields_must_fit(answer: str, fields: dict, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Task(answer=answer, fields=fields)


@pytest.mark.parametrize("behind", [".", ",", "-", " -", "!", ")", ". ", " EUR.", "0", "..", " 5"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [("number", 12.5), ("number", -0.25), ("number", 3.0), ("integer", 1200), ("date", "2024-03-05"), ("text", "A. B")],
)
def test_what_stands_behind_the_last_field_ends_the_answer(kind: str, value: object, behind: str) -> None:
    """Also where the value holds the same sign: ``It costs {price}.`` reads 12.5 from ``It costs 12.5.``"""
    task = Task.model_validate({"answer": "It is {x}" + behind, "fields": {"x": kind}})
    text = task.render({"x": value})
    wanted = task.values({"x": value})
    assert task.parse(text).values == wanted
    start, end = (task.spans(text) or {})["x"]
    assert text[start:end] == task.fields["x"].write(wanted["x"])
