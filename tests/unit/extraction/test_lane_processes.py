"""Forks answer as one process does, every request once; what ends one is said, and none is left behind."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from phisight.core.errors import EngineError, SettingsError
from phisight.extraction import extractor as extracting
from phisight.extraction.answer import Answer
from phisight.extraction.extractor import LocalEngine
from phisight.extraction.lane_processes import CHUNK, Numbered, answer_in_forks, may_fork
from phisight.extraction.url_images import StoredBytes
from phisight.generate import Request
from tests.helpers import served
from tests.helpers.images import encoded, smooth_image

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not may_fork(), reason="no forks on this system"),
]


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    assert multiprocessing.active_children() == []


def says(asked: Iterable[Numbered]) -> Iterator[tuple[int, Answer]]:
    """A lane that names process and prompt."""
    for index, request in asked:
        yield index, Answer({"by": os.getpid()}, text=request.prompt)


def prompts(count: int) -> Iterator[Numbered]:
    return ((index, Request(f"number {index}")) for index in range(count))


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, 5 * CHUNK, 500])
@pytest.mark.parametrize("forks", [1, 3])
def test_every_request_is_answered_once(count: int, forks: int) -> None:
    found = list(answer_in_forks(says, prompts(count), forks=forks, ahead=20))
    assert sorted((index, answer.text) for index, answer in found) == [(n, f"number {n}") for n in range(count)]
    by = {answer["by"] for _, answer in found}
    assert os.getpid() not in by
    assert len(by) == min(forks, -(-count // CHUNK))


def test_a_model_answers_as_in_one_process(tmp_path: Path) -> None:
    """Files, pixels and bytes; one that is missing and one that is cut are answers with an error."""
    file = tmp_path / "0.png"
    smooth_image(3).save(file)
    cut = encoded(smooth_image(4), "PNG")[:200]
    images: list[Any] = [
        file,
        smooth_image(5),
        StoredBytes(encoded(smooth_image(6), "PNG"), "six"),
        tmp_path / "no.png",
    ]
    requests = [(n, Request(served.TASK.prompt, [(*images, StoredBytes(cut, "cut"))[n % 5]])) for n in range(40)]
    extractor = served.extractor()
    engine = extractor.engine
    assert isinstance(engine, LocalEngine)
    ways = {"at_once": 16, "workers": 2}
    alone = dict(engine.run(iter(requests), extractor.reader, **ways))
    forked = dict(replace(engine, forks=True).run(iter(requests), extractor.reader, **ways))
    assert list(map(dict, (forked[n] for n in range(40)))) == list(map(dict, (alone[n] for n in range(40))))
    for n, answer in forked.items():
        other = alone[n]
        assert (answer.text, answer.error, answer.interval, answer.task) == (
            *(other.text, other.error, other.interval, other.task),
        )
        assert answer.confidence == pytest.approx(other.confidence, abs=1e-5)
        assert bool(answer.error) == (n % 5 >= 3 or not answer)


class Waiting:
    """An image that somebody else is waited for."""

    def start(self) -> None:
        pass

    def __call__(self) -> Image.Image:
        return smooth_image(1)


def test_images_that_are_fetched_stay_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules for addresses count what a host sees, once for all."""
    forked: list[int] = []

    def counted(*_: Any, **__: Any) -> Iterator[tuple[int, Answer]]:
        forked.append(1)
        return iter(())

    monkeypatch.setattr(extracting, "answer_in_forks", counted)
    extractor = served.extractor()
    assert isinstance(extractor.engine, LocalEngine)
    engine = replace(extractor.engine, forks=True)
    for image, expected in ((Waiting(), []), (smooth_image(1), [1])):
        list(engine.run([(0, Request("x", [image]))], extractor.reader, at_once=16, workers=1))
        assert forked == expected


def test_what_is_no_image_is_an_answer_with_an_error() -> None:
    def broken() -> Image.Image:
        raise ValueError("a row that nobody can use")

    asked = [(0, Request("a")), (1, Request("b", [broken])), (2, Request("c", [lambda: smooth_image(1)]))]
    found = dict(answer_in_forks(says, asked, forks=2, ahead=20))
    assert found[1].error is not None
    assert "a row that nobody can use" in found[1].error
    assert (found[0].text, found[2].text) == ("a", "c")


def test_a_killed_fork_is_said() -> None:
    def dies(asked: Iterable[Numbered]) -> Iterator[tuple[int, Answer]]:
        for index, answer in says(asked):
            if index == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            yield index, answer

    found = []
    with pytest.raises(EngineError, match=r"images to answer ended with -9 .*same command goes on"):
        found += list(answer_in_forks(dies, prompts(400), forks=2, ahead=20))


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (SettingsError("batch_size 0 must be 1"), SettingsError, "^batch_size 0 must be 1$"),
        (RuntimeError("no\nroom"), EngineError, "^RuntimeError: no room$"),
        (KeyboardInterrupt(), EngineError, "KeyboardInterrupt"),
    ],
)
def test_the_error_of_a_lane_is_raised(raised: BaseException, expected: type[Exception], text: str) -> None:
    def fails(asked: Iterable[Numbered]) -> Iterator[tuple[int, Answer]]:
        yield from [next(says(asked))]
        raise raised

    with pytest.raises(expected, match=text):
        list(answer_in_forks(fails, prompts(100), forks=2, ahead=20))


def test_whoever_stops_listening_leaves_no_process() -> None:
    def endless() -> Iterator[Numbered]:
        number = 0
        while True:
            number += 1
            assert number < 1000, "requests are taken as they are needed"
            yield number, Request("x")

    answers = answer_in_forks(says, endless(), forks=2, ahead=20)
    for _ in range(30):
        next(answers)
    answers.close()  # type: ignore[attr-defined]


def test_the_error_of_the_source_is_raised() -> None:
    def broken() -> Iterator[Numbered]:
        yield from prompts(3 * CHUNK)
        raise SettingsError("the source has changed")

    with pytest.raises(SettingsError, match="has changed"):
        list(answer_in_forks(says, broken(), forks=2, ahead=20))


@pytest.mark.parametrize("propagates", [True, False])
@pytest.mark.parametrize("handled", ["root", "phisight", "root and phisight"])
def test_what_a_fork_logs_is_logged_here_as_often_as_if_it_were_said_here(
    monkeypatch: pytest.MonkeyPatch, handled: str, propagates: bool
) -> None:
    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    def warns(asked: Iterable[Numbered]) -> Iterator[tuple[int, Answer]]:
        for index, answer in says(asked):
            logger.warning("%s is odd", answer.text)
            yield index, answer

    kept: list[str] = []
    logger = logging.getLogger("phisight.generate")
    monkeypatch.setattr(logging.root, "handlers", [Kept()] if "root" in handled else [])
    monkeypatch.setattr(logging.getLogger("phisight"), "handlers", [Kept()] if "phisight" in handled else [])
    monkeypatch.setattr(logging.getLogger("phisight"), "propagate", propagates)
    list(warns(prompts(3)))
    here = sorted(kept)
    kept.clear()
    list(answer_in_forks(warns, prompts(3), forks=1, ahead=20))
    assert sorted(kept) == here


def test_a_killed_parent_leaves_no_fork() -> None:
    program = textwrap.dedent("""
        import os, time
        from phisight.extraction.answer import Answer
        from phisight.extraction.lane_processes import answer_in_forks
        from phisight.generate import Request

        def slow(asked):
            for index, request in asked:
                yield index, Answer({"by": os.getpid()})
                time.sleep(0.2)

        requests = ((n, Request("x")) for n in range(1000))
        for index, answer in answer_in_forks(slow, requests, forks=2, ahead=20):
            print(answer["by"], flush=True)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    by = {int(parent.stdout.readline()) for _ in range(6)}
    assert len(by) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not any(Path(f"/proc/{one}").exists() for one in by):
            break
        time.sleep(0.1)
    assert not any(Path(f"/proc/{one}").exists() for one in by)
