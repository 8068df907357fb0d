"""How columns of prices, as people write them, are read: right, or asked about, never silently wrong."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phisight.core.errors import SettingsError
from phisight.data.values.currencies import currency
from phisight.data.values.number_style import NumberStyle, learn_style, styles_by_column
from phisight.data.values.number_text import read_number_text
from tests.helpers.written_numbers import STYLES, Written, grouped, written_prices


def wrong(prices: list[Written], style: NumberStyle) -> list[tuple[str, float, object]]:
    read = [(one.text, one.value, style.read(one.text)) for one in prices]
    return [(text, value, found) for text, value, found in read if found is None or found[0] != value]


def style_or_question(column: str, prices: list[Written]) -> NumberStyle | None:
    """The column's style; None where an error asks for it by the option that settles it."""
    try:
        return learn_style(column, [one.text for one in prices]).style
    except SettingsError as error:
        if f"--number {column}:" not in str(error):
            raise
        return None


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(3))
def test_a_national_style_is_read(style: str, seed: int) -> None:
    prices = list(written_prices(style, 1000, seed))
    guess = learn_style("price", [one.text for one in prices])
    assert not wrong(prices, guess.style)
    assert guess.unread == 0


@pytest.mark.parametrize("seed", range(40))
def test_mixed_styles_are_read_or_asked_about(seed: int) -> None:
    """Whatever is mixed, what is read is right; else the error names the option."""
    draw = random.Random(seed)
    chosen = draw.sample(sorted(STYLES), draw.choice([2, 2, 3, 12]))
    prices = [one for style in chosen for one in written_prices(style, 1000 // len(chosen), seed)]
    draw.shuffle(prices)
    style = style_or_question("price", prices)
    assert style is None or not [one for one in wrong(prices, style) if one[2] is not None], chosen


@pytest.mark.parametrize("seed", range(40))
def test_numbers_without_a_unit_are_read_or_asked_about(seed: int) -> None:
    """Bare numbers of any two separators and any share of whole ones."""
    draw = random.Random(seed)
    decimal, thousands = draw.choice([(".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (".", ""), (",", "")])
    places, share = draw.choice([0, 1, 2, 3, 3]), draw.random()
    prices = []
    for _ in range(draw.choice([3, 30, 300])):
        value = round(10 ** draw.uniform(0, 6), 0 if draw.random() < share else places)
        whole, _, part = f"{value:.{places}f}".partition(".")
        written = grouped(whole, thousands) if thousands else whole
        prices.append(Written(written + (decimal + part if part.strip("0") else ""), value))
    style = style_or_question("n", prices)
    assert style is None or not [one for one in wrong(prices, style) if one[2] is not None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$9.99", 9.99), ("€ 1.429,87", 1429.87), ("9,99 EUR", 9.99), ("1 299,00", 1299.0), ("1,299.00", 1299.0),
        ("1'299.-", 1299.0), ("(45)", -45.0), ("12%", 12.0), ("９，９９", 9.99), ("45-", -45.0), ("45.-", 45.0),
        ("-$45.00", -45.0), ("1 299:-", 1299.0), ("₹1,29,900.00", 129900.0), ("١٬٢٩٩٫٠٠", 1299.0), ("1.2E+03", 1200.0),
        (".5", 0.5), ("0.299", 0.299), ("US$ 12", 12.0), ("1,234,567.891", 1234567.891), ("\u22125", -5.0),
    ],
)  # fmt: skip
def test_one_value_is_enough(text: str, value: float) -> None:
    style = learn_style("price", [text]).style
    read = style.read(text)
    assert read is not None
    assert read[0] == value


@pytest.mark.parametrize(
    "text",
    ["", "free", "12-15", "9.99 / 12.99", "12.03.2024", "1,299,00", "1.2.3", "(12", "12½", "+49 30 1234-56", "1 2"],
)
def test_what_is_no_number_is_not_read(text: str) -> None:
    assert read_number_text(text) is None


def test_one_value_settles_another() -> None:
    assert learn_style("p", ["1.299", "12,50"]).style.read("1.299") == (1299.0, "")
    assert learn_style("p", ["1.299", "12.50"]).style.read("1.299") == (1.299, "")
    assert learn_style("p", ["1,299", "1.299.000"]).style.read("1,299") == (1.299, "")


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["1.299", "2.450", "899"], r"3? ?.*two ways.*'1.299'.*--number p:decimal=dot"),
        (["1.299", "12,50", "9.99"], r"several ways.*--number p:decimal"),
        (["9.99 EUR", "$9.99", "$5.00"], r"2 currencies \(\$ 2, EUR 1\).*unit=strip"),
        (["12%", "0.12"], r"different units"),
        (["12 cm", "1.2 m", "3 m"], r"different units \(m 2, cm 1\)"),
    ],
)
def test_what_cannot_be_told_is_asked(cells: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        learn_style("p", cells)


def test_what_was_told_holds() -> None:
    given = styles_by_column(["a:b:decimal=comma,thousands=dot,unit=strip"])
    assert given == {"a:b": {"decimal": "comma", "thousands": "dot", "unit": "strip"}}
    style = learn_style("p", ["1.299", "5 EUR", "$7"], given["a:b"]).style
    assert [style.read(text) for text in ("1.299", "5 EUR", "$7")] == [(1299.0, ""), (5.0, "EUR"), (7.0, "$")]
    assert style.read("12.50") is None


@pytest.mark.parametrize(
    "text", ["price", "p:decimal=point", "p:decimal=dot,thousands=dot", "p:sign=dot", ":decimal=dot"]
)
def test_a_malformed_option_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--number"):
        styles_by_column([text])


def test_a_weak_hint_decides_nothing() -> None:
    """One odd value among a thousand does not turn all others a thousandfold."""
    with pytest.raises(SettingsError, match="two ways"):
        learn_style("p", ["12.5", *(f"{n}.299" for n in range(1, 500))])


@pytest.mark.slow
@given(st.text(max_size=30))
def test_no_text_raises(text: str) -> None:
    number = read_number_text(text)
    if number is not None:
        assert all(float(reading.value) == float(reading.value) for reading in number.readings)
        assert len(number.readings) <= 2


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        ("€", "EUR"),
        ("eur", "EUR"),
        ("Kč", "CZK"),
        ("kr.", "kr"),
        ("$", "$"),
        ("cup", None),
        ("ft", None),
        ("Ft", "HUF"),
    ],
)
def test_currencies_are_told_from_other_units(unit: str, code: str | None) -> None:
    assert currency(unit) == code
