"""Whatever number a training row holds can be written by a constrained answer, and is read back as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phisight.core.dataset_folder import METADATA, DatasetCard
from phisight.core.errors import RunError
from phisight.core.kinds.automata import MOST_DECIMALS
from phisight.core.kinds.number import LONGEST
from phisight.core.run_folder import LIMITS
from phisight.core.task import Task
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.generate.grammar import Grammar
from phisight.workflows.predict import grammar_of, limits_of_run
from tests.helpers.fake_model import END, FakeTokenizer

NUMBERS = st.one_of(
    st.floats(-1e15, 1e15, exclude_min=True, exclude_max=True),
    st.floats(-1, 1),
    st.floats(-1e-3, 1e-3),
    st.integers(-(10**14), 10**14).map(float),
    st.decimals(-99999, 99999, places=2).map(float),
    st.sampled_from([0.0, -0.0, 0.12345, 1e-5, 9.995, 99.5, 0.1 + 0.2, 5e-324]),
)
COLUMNS = st.sampled_from([pa.float64(), pa.string()])


def task_of(decimals: int | None) -> Task:
    return Task(answer="{price} USD", fields={"price": {"kind": "number", "decimals": decimals}})


def data_set(folder: Path, task: Task, values: list[float], kind: Any = None) -> Path:
    """A data set folder whose training rows have these numbers, in a column of floats or of texts."""
    folder.mkdir(parents=True, exist_ok=True)
    column = [repr(value) for value in values] if kind == pa.string() else values
    table = pa.table(
        {
            "file_name": pa.array(["a.jpg"] * len(values)),
            "key": pa.array([str(row) for row in range(len(values))]),
            "split": pa.array(["train"] * len(values)),
            "price": pa.array(column, kind or pa.float64()),
        }
    )
    pq.write_table(table, folder / METADATA)
    DatasetCard(task=task, key="key", rows=len(values), splits={"train": len(values)}).write(folder)
    return folder


def accepts(limits: AnswerLimits, task: Task, text: str) -> bool:
    grammar = Grammar.of_known(task, limits.known())
    return grammar.complete(grammar.walk(grammar.start, text.encode()))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NUMBERS, min_size=1, max_size=6), st.none() | st.integers(0, 10), COLUMNS)
def test_every_number_of_the_training_rows_can_be_answered(
    tmp_path: Path, values: list[float], decimals: int | None, kind: Any
) -> None:
    task = task_of(decimals)
    limits = AnswerLimits.of_training(task, [data_set(tmp_path / "data", task, values, kind)])
    for value in values:
        answer = task.render({"price": value})
        assert "e" not in answer.removesuffix(" USD"), "no exponent"
        assert accepts(limits, task, answer), answer
        back = task.parse(answer).values
        assert back is not None
        assert back["price"] == value if decimals is None else math.isclose(back["price"], value, abs_tol=0.51)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "text", "fits"),
    [
        ([0.12345, 3.5], "0.98765", True),
        ([0.12345, 3.5], "0.987654", False),
        ([12.5, 99.0], "12.55", False),
        ([0.00001], "0.00002", True),
        ([-3.0, 7.0], "-9.0", True),
        ([3.0, 7.0], "-3.0", False),
        ([123456789012.5], "999999999999.0", True),
        ([5.0], "0.5", True),
    ],
)
def test_numbers_have_the_digits_of_the_training_rows(
    values: list[float], text: str, fits: bool, tmp_path: Path
) -> None:
    task = task_of(None)
    assert accepts(AnswerLimits.of_training(task, [data_set(tmp_path, task, values)]), task, f"{text} USD") is fits


@pytest.mark.parametrize(("value", "text"), [(1e-05, "0.00001"), (1e22, "1" + "0" * 22 + ".0"), (-0.0, "0.0")])
def test_small_and_large_numbers_are_written_without_exponent(value: float, text: str) -> None:
    assert task_of(None).fields["price"].write(value) == text


def test_a_run_is_held_to_what_it_recorded(tmp_path: Path) -> None:
    """Whatever has become of the data set; a run that recorded nothing has four decimals, as it always had."""
    task, run = task_of(None), tmp_path / "run"
    data = data_set(tmp_path / "data", task, [0.1234567])
    before = limits_of_run(run, task, [data])
    assert before.decimals == {}
    assert accepts(before, task, "0.1234 USD")
    assert not accepts(before, task, "0.12345 USD")
    assert MOST_DECIMALS == 4
    AnswerLimits.of_training(task, [data]).write(run)
    data_set(tmp_path / "data", task, [5.0])
    held = limits_of_run(run, task, [data])
    assert held == AnswerLimits({}, {"price": (0.1234567, 0.1234567)}, {"price": 7})
    assert accepts(held, task, "0.1234567 USD")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "phisight-limits/9"}', '{"format": "phisight-limits/1"}'])
def test_a_record_that_cannot_be_used_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / LIMITS).write_text(text)
    with pytest.raises(RunError, match=LIMITS):
        AnswerLimits.recorded(tmp_path)


@pytest.mark.parametrize("values", [[0.12], [-1234567890123.25], [5e-324]])
def test_texts_leave_room_for_the_longest_number(values: list[float], tmp_path: Path) -> None:
    fields = {"title": "text", "price": "number"}
    task = Task(answer="{title}: {price}", fields=fields)
    numbers = task_of(None)
    limits = AnswerLimits.of_training(numbers, [data_set(tmp_path, numbers, values)])
    longest = max((numbers.fields["price"].write(value) for value in values), key=len)

    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=END))
    processor, most = SimpleNamespace(tokenizer=FakeTokenizer()), 2 * len(longest) + 40
    room = grammar_of(model, processor, task, limits, most).max_text_tokens
    assert room + len(f": {longest}") < most
    usual = grammar_of(model, processor, task, AnswerLimits(), most).max_text_tokens
    assert (room < usual) is (len(longest) > len(LONGEST))


def test_the_record_says_its_format(tmp_path: Path) -> None:
    limits = AnswerLimits({"kind": ["A"]}, {"price": (-1.0, 2.5)}, {"price": 1})
    limits.write(tmp_path)
    assert json.loads((tmp_path / LIMITS).read_text())["format"] == "phisight-limits/1"
    assert AnswerLimits.recorded(tmp_path) == limits
