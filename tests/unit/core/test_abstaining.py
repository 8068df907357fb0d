"""A task that may say "not shown" of every field: all kinds of field, optional or not, and all of their subsets."""

from itertools import product

import pytest

from phisight.core.errors import EmptyFieldError, TaskError
from phisight.core.kinds import KINDS, Known
from phisight.core.task import NOT_SHOWN, Task
from phisight.core.task_field import TaskField
from phisight.evaluate import field_metrics
from phisight.generate.grammar import Grammar

VALUES = {
    "text": "Check Scarf",
    "category": "SCARVES",
    "number": 12.5,
    "integer": 7,
    "date": "2024-03-31",
    "boolean": True,
    "list": ["milk", "bread"],
}
KNOWN = Known(values=("SCARVES", "HATS"), low=0.0, high=99.0, decimals=1)


def task_of(kind: str, *, optional: bool = False) -> Task:
    fields = {"one": TaskField(kind=kind, optional=optional), "two": TaskField(kind="category")}
    return Task(prompt="What is it?", answer="One: {one}, Two: {two}.", fields=fields)


def test_every_kind_has_a_value_here() -> None:
    assert VALUES.keys() == KINDS.keys()


@pytest.mark.parametrize(("kind", "optional"), list(product(KINDS, [False, True])))
def test_what_is_not_shown_is_written_and_read(kind: str, optional: bool) -> None:
    task = task_of(kind, optional=optional).abstaining()
    row = {"one": VALUES[kind], "two": "SCARVES"}
    word = "none" if optional else NOT_SHOWN
    assert task.not_shown == {"one": word, "two": NOT_SHOWN}
    grammar = Grammar.of_known(task, {"one": KNOWN, "two": KNOWN})
    for hidden in ([], ["one"], ["two"], ["one", "two"]):
        cells = row | {name: task.not_shown[name] for name in hidden}
        text = task.render(cells)
        read = task.parse(text).values
        assert read is not None
        assert {name for name, value in read.items() if value is None} == set(hidden)
        assert grammar.complete(grammar.walk(grammar.start, text.encode())), text
        assert task.parse(text.replace(word, word.upper())).values is not None
    json = task.as_json(task.values(task.not_shown))
    assert json == {"one": None, "two": None}
    properties = task.answer_schema({"one": KNOWN, "two": KNOWN})["properties"]
    assert all({"type": "null"} in properties[name]["anyOf"] for name in task.names)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_plain_task_does_not_say_it(kind: str) -> None:
    plain = task_of(kind)
    row = {"one": VALUES[kind], "two": "SCARVES"}
    text = plain.render(row).replace("SCARVES", NOT_SHOWN)
    grammar = Grammar.of_known(plain, {"one": KNOWN, "two": KNOWN})
    assert not grammar.walk(grammar.start, text.encode())
    assert not plain.abstains
    assert plain.abstaining().render(row) == plain.render(row)


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_still_need_a_value(kind: str) -> None:
    with pytest.raises(EmptyFieldError, match="field 'one' is empty"):
        task_of(kind).abstaining().values({"one": None, "two": "SCARVES"})


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_refusal_is_scored_as_wrong(kind: str) -> None:
    task = task_of(kind).abstaining()
    truth = [task.values({"one": VALUES[kind], "two": "SCARVES"})["one"]] * 2
    judged = 0
    for metric in field_metrics(task, "one"):
        right, refused = metric(truth, truth), metric(truth, [truth[0], None])
        if metric.complete and right is not None and refused is not None:
            assert right > refused if metric.higher_is_better else right < refused, metric.name
            judged += 1
    assert judged
    assert [one.name for one in field_metrics(task, "one")] == [one.name for one in field_metrics(task_of(kind), "one")]


def test_the_task_survives_its_file() -> None:
    task = task_of("number").abstaining("nothing")
    assert Task.model_validate_json(task.model_dump_json()) == task
    assert task.abstains
    assert task.model_dump()["fields"]["one"] == {
        "kind": "number",
        "decimals": None,
        "abstain": True,
        "absent": "nothing",
    }
    assert task.abstaining() == task


def test_a_word_that_cannot_be_read_back_is_refused() -> None:
    with pytest.raises(TaskError, match="cannot be read back"):
        task_of("text").abstaining("a, Two: b")
    with pytest.raises(TaskError, match="cannot stand for no value"):
        task_of("text").abstaining(" ")
