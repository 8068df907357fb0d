"""What was fitted on answers that a server does not give is not applied to those that it gives."""

from pathlib import Path
from typing import Any

import pytest

from phisight.core.settings import Numbers
from phisight.core.task import Task
from phisight.export.task_file import FieldCalibration, NumberInterval, TaskFile
from phisight.extraction.chat_client import ChatClient
from phisight.workflows.extract import EngineOptions, open_extractor
from phisight.workflows.predict import fitting_server
from tests.helpers.chat_server import ChatServer, serving

TASK = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})
HALF = FieldCalibration(raw=[0.0, 1.0], calibrated=[0.0, 0.5], rows=40)
AROUND = NumberInterval(level=0.8, logarithmic=False, radius=2.0, rows=40)


def task_file(numbers: Numbers, *, constrained: bool) -> TaskFile:
    return TaskFile(
        task=TASK, numbers=numbers, constrained=constrained, intervals={"price": AROUND},
        calibration={"title": HALF, "price": HALF},
    )  # fmt: skip


CASES: list[tuple[Numbers, bool, set[str]]] = [
    ("text", False, {"title", "price"}),
    ("head", False, {"title"}),
    ("expected", False, {"title"}),
    ("text", True, set()),
    ("head", True, set()),
]


@pytest.mark.parametrize("owner", [None, "vllm", "phisight"])
@pytest.mark.parametrize(("numbers", "constrained", "left"), CASES)
def test_what_stays_of_intervals_and_calibrations(
    numbers: Numbers, constrained: bool, left: set[str], owner: str | None
) -> None:
    told: list[str] = []
    file = task_file(numbers, constrained=constrained)
    with serving(ChatServer(lambda _: "", owner=owner)) as chat:
        found = fitting_server(file, ChatClient(chat.url), told.append)
    if owner == "phisight":
        left = {"title", "price"}
    assert set(found.calibration) == left
    assert set(found.intervals) == left & {"price"}
    assert len(told) == (left != {"title", "price"})
    for line in told:
        assert "\n" not in line
        assert (owner or "does not say") in line
        assert all(name in line for name in {"title", "price"} - left)


def test_the_model_that_is_asked_for_decides() -> None:
    """A server may list several, of several makers."""
    file = task_file("head", constrained=False)
    with serving(ChatServer(lambda _: "", owner="phisight")) as chat:
        kept = fitting_server(file, ChatClient(chat.url, "served"), print)
        dropped = fitting_server(file, ChatClient(chat.url, "unlisted"), print)
    assert "price" in kept.intervals
    assert not dropped.intervals


def test_nothing_is_asked_where_nothing_was_fitted() -> None:
    file = TaskFile(task=TASK, numbers="head", constrained=True)
    assert fitting_server(file, ChatClient("http://127.0.0.1:9/v1"), pytest.fail) is file


@pytest.mark.parametrize("owner", ["someone else", "phisight"])
def test_bulk_prediction_by_a_server(owner: str, tmp_path: Path) -> None:
    """Through the function of the command: answers of the server, with or without what was fitted."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "phi3_v", "architectures": ["Phi3VForCausalLM"]}')
    task_file("head", constrained=False).write(model)
    told: list[str] = []
    with serving(ChatServer(lambda _: "Name: Hat, Price: 4.0", owner=owner)) as chat:
        options = EngineOptions("openai", url=chat.url)
        extractor = open_extractor(str(model), options, notify=told.append)
        answer: Any = extractor.extract(_image())
    assert dict(answer) == {"title": "Hat", "price": 4.0}
    assert 0 < answer.confidence["title"] < 0.5
    if owner == "phisight":
        assert answer.interval == {"price": (2.0, 6.0)}
        assert answer.confidence["price"] < 0.5
        assert not told
    else:
        assert answer.interval == {}
        assert answer.confidence["price"] > 0.9, "as the server gives it"
        assert len(told) == 1


def _image() -> Any:
    from PIL import Image

    return Image.new("RGB", (20, 10), (9, 9, 9))
