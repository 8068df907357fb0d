"""Dates, lists and truth values as people write them."""

from __future__ import annotations

import datetime
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phisight.core.errors import SettingsError
from phisight.data.values.booleans import form_a_pair, read_boolean
from phisight.data.values.date_style import DateStyle, learn_dates, possible_dates
from phisight.data.values.lists import ListStyle, learn_list

WRITTEN = {
    "iso": "{y:04}-{m:02}-{d:02}",
    "iso_time": "{y:04}-{m:02}-{d:02}T12:30:00Z",
    "compact": "{y:04}{m:02}{d:02}",
    "german": "{d:02}.{m:02}.{y}",
    "british": "{d}/{m}/{y}",
    "american": "{m}/{d}/{y}",
    "american_time": "{m}/{d}/{y} 3:15 PM",
    "named": "{d} {name} {y}",
    "named_american": "{name} {d}, {y}",
    "slashes": "{y}/{m}/{d}",
    "dashes": "{d:02}-{m:02}-{y}",
    "abbreviated": "{d}-{name:.3}-{y}",
    "weekday": "Mon, {d} {name:.3} {y} 10:00:00 +0000",
}


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("seed", range(3))
def test_every_written_form_is_read(form: str, seed: int) -> None:
    draw = random.Random(seed)
    days = [datetime.date(2000, 1, 1) + datetime.timedelta(draw.randrange(10_000)) for _ in range(300)]
    cells = [WRITTEN[form].format(y=day.year, m=day.month, d=day.day, name=day.strftime("%B")) for day in days]
    style = learn_dates("when", cells)
    assert [style.read(cell) for cell in cells] == days


def test_dates_that_may_be_two_are_asked_about() -> None:
    with pytest.raises(SettingsError, match=r"two ways.*--date when:dmy"):
        learn_dates("when", ["03/04/2024", "05/06/2024"])
    with pytest.raises(SettingsError, match=r"two orders: 1 .*'13/04/2024'.*1 .*'04/13/2024'"):
        learn_dates("when", ["13/04/2024", "04/13/2024", "03/04/2024"])
    assert learn_dates("when", ["03/04/2024"], "mdy").read("03/04/2024") == datetime.date(2024, 3, 4)
    assert learn_dates("when", ["03/03/2024"]).read("03/03/2024") == datetime.date(2024, 3, 3)


def test_one_date_settles_the_others() -> None:
    assert learn_dates("when", ["03/04/2024", "13/04/2024"]) == DateStyle("dmy")
    assert learn_dates("when", ["03/04/2024", "04/13/2024"]) == DateStyle("mdy")


@pytest.mark.parametrize(
    "text", ["", "12", "12.50", "2024-13-01", "31/02/2024", "soon", "1/2", "99999999", "12/2024", "1.2.3"]
)
def test_what_is_no_date_is_not_read(text: str) -> None:
    assert not possible_dates(text)


@given(st.text(max_size=30))
def test_no_text_raises(text: str) -> None:
    possible_dates(text)
    read_boolean(text)
    ListStyle(",").read(text)


@pytest.mark.parametrize(
    ("cells", "lists"),
    [
        (["['a', 'b c']", '["d"]'], [["a", "b c"], ["d"]]),
        (["a|b, c", "d"], [["a", "b, c"], ["d"]]),
        (["a; b;", "c"], [["a", "b"], ["c"]]),
        (["a, b", "c"], [["a", "b"], ["c"]]),
        ([["x", "y"], None, []], [["x", "y"], None, None]),
        (["[1, 2]", "", "[broken"], [["1", "2"], None, ["[broken"]]),
        (["('a',)", "{'b'}"], [["a"], ["b"]]),
    ],
)
def test_lists_are_read(cells: list[object], lists: list[list[str] | None]) -> None:
    style = learn_list(cells)
    assert [style.read(cell) for cell in cells] == lists


@pytest.mark.parametrize(
    ("cell", "value"),
    [(True, True), ("Yes", True), (" no ", False), (1, True), (0, False), ("1.0", True), ("Nein", False), ("", None),
     (None, None), ("maybe", None), ("２", None), ("１", True)],
)  # fmt: skip
def test_truth_values_are_read(cell: object, value: bool | None) -> None:
    assert read_boolean(cell) is value


PAIRS = ["yes no", "Yes NO", "y n", "true false", "TRUE FALSE", "t f", "1 0", "1.0 0.0", "on off", "ja nein", "oui non",
         "sí no", "si no", "sim não", "да нет", "是 否", "✓ ✗", "✔ ✘", "x -"]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_words_of_one_pair_are_truth_values(pair: str) -> None:
    yes, no = pair.split()
    assert (read_boolean(yes), read_boolean(no)) == (True, False)
    assert form_a_pair([yes, no, yes, no.upper()])
    assert form_a_pair([yes])


def test_words_of_two_pairs_are_none() -> None:
    words = {word.casefold() for pair in PAIRS for word in pair.split()}
    pairs = [{word.casefold() for word in pair.split()} for pair in [*PAIRS, "✔ ✗", "✓ ✘", "si sí", "✓ ✔", "✗ ✘"]]
    pairs += [{"✓", "-"}, {"✔", "-"}, {"✗", "-"}, {"✘", "-"}]
    for two in itertools.combinations(sorted(words), 2):
        assert form_a_pair(two) == (set(two) in pairs), two
