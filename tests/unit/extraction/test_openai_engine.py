"""Answers from a server: the same fields, bounded concurrency, retries, and one row's failure is its own."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phisight.core.errors import EngineError, SettingsError
from phisight.core.task import Task
from phisight.data.fetch.failures import seconds_to_wait
from phisight.extraction.answer import Answer, AnswerReader
from phisight.extraction.chat_client import ChatClient, ServerLimits, base_url
from phisight.extraction.openai_engine import OpenAIEngine, answer_of
from phisight.generate.requests import Request
from tests.helpers.chat_server import ChatServer, serving

TASK = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})
QUICK = ServerLimits(backoff_s=0.01, total_s=5.0)


def text_of(color: tuple[int, int, int]) -> str:
    return f"Name: Ü {color[0]}, Price: {color[0] / 4}"


def requests(count: int) -> list[tuple[int, Request]]:
    images = [Image.new("RGB", (16, 12), (row % 256, 0, 0)) for row in range(count)]
    return [(row, Request(TASK.prompt, [image])) for row, image in enumerate(images)]


def asked(
    chat: ChatServer, wanted: Any, *, at_once: int = 4, limits: ServerLimits = QUICK, **options: Any
) -> dict[int, Answer]:
    engine = OpenAIEngine(ChatClient(chat.url, limits=limits, **options), 96)
    return dict(engine.run(wanted, AnswerReader(TASK), at_once=at_once, workers=2))


def expected(count: int) -> dict[int, dict[str, Any]]:
    return {row: {"title": f"Ü {row}", "price": row / 4} for row in range(count)}


def test_fields_confidences_and_the_request() -> None:
    with serving(ChatServer(text_of)) as chat:
        found = asked(chat, requests(30), key="secret")
    assert {row: dict(answer) for row, answer in found.items()} == expected(30)
    assert found[3].confidence["title"] == pytest.approx(2.718281828 ** (-0.01 * 4), abs=1e-6)
    assert len(chat.bodies) == 30
    assert set(chat.keys) == {"Bearer secret"}
    body = chat.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("served", 0, 96)
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "text"]
    assert body["messages"][0]["content"][1]["text"] == TASK.prompt


def test_files_arrive_with_the_pixels_of_training(tmp_path: Path) -> None:
    """A JPEG goes as it is, without metadata; one that lies on its side arrives upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 16), (200, 0, 0)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    wanted = [(row, Request(TASK.prompt, [tmp_path / name])) for row, name in enumerate(["a.jpg", "b.jpg", "c.jpg"])]
    sizes: list[tuple[int, int]] = []
    with serving(ChatServer(text_of)) as chat:
        found = asked(chat, wanted)
    assert found[0].ok
    assert "not JPEG" in str(found[1].error)
    assert "c.jpg" in str(found[2].error)
    data = chat.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    assert data.startswith("data:image/jpeg;base64,")
    import base64
    import io

    with Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))) as image:
        sizes.append(image.size)
        assert not image.getexif()
    assert sizes == [(16, 32)]


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_as_many_at_once_as_asked_for_and_no_more(at_once: int) -> None:
    with serving(ChatServer(text_of, hold=at_once)) as chat:  # nobody is answered before so many have asked
        asked(chat, requests(24), at_once=at_once)
    assert chat.most_at_once == at_once


def behaving(*ways: str) -> Callable[[int], str]:
    """The first requests are answered in these ways, all later ones well."""
    return lambda number: ways[number] if number < len(ways) else "ok"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["429", "500", "502", "503", "504", "408", "reset", "broken"])
@pytest.mark.parametrize("times", [1, 3])
def test_what_is_transient_is_asked_again(way: str, times: int) -> None:
    with serving(ChatServer(text_of, behaving(*[way] * times))) as chat:
        found = asked(chat, requests(3), at_once=1)
    assert {row: dict(answer) for row, answer in found.items()} == expected(3)
    assert len(chat.bodies) == 3 + times


def test_retry_after_pauses_every_request() -> None:
    with serving(ChatServer(text_of, behaving("429"), retry_after="0.4")) as chat:
        found = asked(chat, requests(6), at_once=1)
    assert len(found) == 6
    assert chat.times[1] - chat.times[0] >= 0.4


def test_silence_is_not_waited_for() -> None:
    with serving(ChatServer(text_of, behaving("silent"))) as chat:
        found = asked(chat, requests(2), at_once=1, limits=ServerLimits(total_s=0.3, backoff_s=0.01))
    assert {row: dict(answer) for row, answer in found.items()} == expected(2)


@pytest.mark.parametrize(
    ("way", "words"),
    [("400", "400 as asked"), ("413", "413"), ("422", "422"), ("empty", "no answer in"), ("302", "302")],
)
def test_what_is_permanent_costs_its_own_row(way: str, words: str) -> None:
    with serving(ChatServer(text_of, behaving("ok", way))) as chat:
        found = asked(chat, requests(4), at_once=1)
    assert words in str(found[1].error)
    assert [row for row, answer in found.items() if answer.ok] == [0, 2, 3]
    assert len(chat.bodies) == 4


def test_a_pause_that_is_too_long_costs_its_own_row() -> None:
    with serving(ChatServer(text_of, behaving("429"), retry_after="999")) as chat:
        found = asked(chat, requests(3), at_once=1)
    assert "429" in str(found[0].error)
    assert found[1].ok
    assert found[2].ok


def test_servers_without_log_probabilities() -> None:
    for way in ("none", "bare"):
        with serving(ChatServer(text_of, lambda _number, way=way: way)) as chat:  # type: ignore[misc]
            found = asked(chat, requests(4), at_once=1)
        assert {row: dict(answer) for row, answer in found.items()} == expected(4)
        assert found[0].confidence == {}
        assert len(chat.bodies) == 4 + (way == "none")


@pytest.mark.parametrize(
    ("way", "words"),
    [("401", "rejects the key"), ("403", "rejects the key"), ("404", "has no model"), ("500", "in a row")],
)
def test_a_server_that_answers_nobody_ends_it(way: str, words: str) -> None:
    with serving(ChatServer(text_of, lambda _number: way)) as chat, pytest.raises(EngineError, match=words) as error:
        asked(chat, requests(500), limits=ServerLimits(attempts=2, backoff_s=0.001), key="secret")
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert len(chat.bodies) < 100


def test_a_server_that_is_not_there_is_named() -> None:
    with serving(ChatServer(text_of)) as chat:
        pass
    for model in (None, "served"):
        with pytest.raises(EngineError, match=r"127\.0\.0\.1:\d+/v1 cannot be reached"):
            asked(chat, requests(3), limits=ServerLimits(attempts=2, backoff_s=0.01), model=model)


def test_requests_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def endless() -> Iterator[tuple[int, Request]]:
        for index, request in requests(1) * 10_000:
            taken.append(index)
            yield index, request

    threads = threading.active_count()
    with serving(ChatServer(text_of)) as chat:
        answers = OpenAIEngine(ChatClient(chat.url, limits=QUICK), 96).run(
            endless(), AnswerReader(TASK), at_once=3, workers=2
        )
        for _ in range(5):
            next(answers)
        answers.close()  # type: ignore[attr-defined]
    assert len(taken) < 40
    assert threading.active_count() == threads


def test_an_error_of_the_source_is_raised() -> None:
    def broken() -> Iterator[tuple[int, Request]]:
        yield from requests(2)
        raise SettingsError("the source has changed")

    with serving(ChatServer(text_of)) as chat, pytest.raises(SettingsError, match="has changed"):
        asked(chat, broken())


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("https://h/v1/", "https://h/v1"),
        ("https://h/api/v1/chat/completions", "https://h/api/v1"),
        ("https://h/api", "https://h/api/v1"),
    ],
)
def test_addresses_of_servers(url: str, base: str) -> None:
    assert base_url(url) == base


def test_no_addresses() -> None:
    for url in ("localhost:8000", "ftp://h", "http://", ""):
        with pytest.raises(SettingsError, match="is no address of a server"):
            base_url(url)


def test_retry_after_in_both_forms() -> None:
    assert seconds_to_wait("1.5") == 1.5
    assert seconds_to_wait("-3") == 0
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert (seconds_to_wait("Wed, 21 Oct 2099 07:28:00 GMT") or 0) > 1e9
    assert seconds_to_wait("soon") is None
    assert seconds_to_wait(None) is None


@pytest.mark.parametrize(("text", "spelled"), [("Price: 9.5", "Price: 7.25"), ("Price: 10.0", "Price: 7.0"), ("", "")])
def test_a_number_that_a_head_decides_keeps_its_confidences(text: str, spelled: str) -> None:
    """The answer carries another number than its tokens spell: each field is as sure as its tokens are."""
    before = "Name: Ü 3, "
    answer, written = before + (text or "Price: 1.0"), before + (spelled or "Price: 1.0")
    pieces = [piece.encode() for piece in written]
    content = [{"token": "?", "bytes": list(piece), "logprob": -0.01} for piece in pieces]
    content += [{"token": "<|end|>", "bytes": [], "logprob": -0.01}]
    choice = {"message": {"content": answer}, "logprobs": {"content": content}, "finish_reason": "stop"}
    found = answer_of({"choices": [choice]}, AnswerReader(TASK))
    assert found["price"] == float(answer.rpartition(" ")[2])
    assert set(found.confidence) == {"title", "price"}
    assert all(0 < one < 1 for one in found.confidence.values())
