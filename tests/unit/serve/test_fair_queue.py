"""The fewest in work are next; nobody fills the queue of all."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.generate.decoding.sampling import Decoding
from phisight.serve.engine.fair_queue import FairQueue
from phisight.serve.engine.job import Job
from phisight.serve.protocol.api_error import ApiError


def job(client: str, choices: int = 1) -> Job:
    async def made() -> Job:
        return Job(client, [], [], [Decoding(1)] * choices)

    return asyncio.run(made())


def test_clients_take_turns_however_many_one_sends() -> None:
    queue = FairQueue(100, share=100)
    for _ in range(10):
        queue.put(job("heavy"), 1)
    assert [one.client for _ in range(3) if (one := queue.next())] == ["heavy"] * 3
    queue.put(job("light"), 1)
    queue.put(job("light"), 1)
    queue.put(job("other"), 1)
    order = [one.client for _ in range(4) if (one := queue.next())]
    assert order == ["light", "other", "light", "heavy"]


def test_a_client_has_its_share_at_most() -> None:
    queue = FairQueue(100, share=3)
    for _ in range(5):
        queue.put(job("heavy", 2), 1)
    assert queue.next()
    assert queue.next() is None, "2 + 2 are more than 3"
    queue.put(job("other", 5), 1)
    assert (found := queue.next()) is not None
    assert found.client == "other", "the first of a client is never held back"
    queue.done("heavy", 2)
    assert (found := queue.next()) is not None
    assert found.client == "heavy"
    assert queue.in_work == {"heavy": 2, "other": 5}


def test_a_full_queue_refuses_with_a_time() -> None:
    queue = FairQueue(6, share=1)
    for client in ("a", "a", "a"):
        queue.put(job(client), 1)
    with pytest.raises(ApiError) as caught:
        queue.put(job("a"), 2.0)
    assert caught.value.status == 429
    assert caught.value.headers() == {"Retry-After": "7"}
    for _ in range(3):
        queue.put(job("b"), 1)
    with pytest.raises(ApiError):
        queue.put(job("c"), 1)
    gone = job("a")
    assert not queue.remove(gone)
    assert len(queue.drain()) == 6
    assert len(queue) == 0
