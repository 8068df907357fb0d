"""Decoding in processes of its own: the same tensors, and a process that dies takes no answer with it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.data.images.decode import decode_bytes
from phisight.generate.prepare import Preparer
from phisight.generate.requests import Request
from phisight.serve.engine.image_workers import Caps, ImageWorkers
from phisight.serve.protocol.api_error import ApiError
from tests.helpers import served

pytestmark = [pytest.mark.process, pytest.mark.slow]


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_encode_as_threads_do() -> None:
    workers = ImageWorkers(served.tiny()[1], Caps(), 1)
    images = [served.image_bytes(1), served.image_bytes(2)]

    async def encoded() -> dict[str, Any]:
        found = await workers.encode(served.served().question(2), images)
        with pytest.raises(ApiError) as caught:
            await workers.encode(served.served().question(1), [b"no image"])
        assert (caught.value.status, caught.value.code) == (400, "invalid_image"), "errors come back whole"
        with pytest.raises(ApiError, match="ended the process"):
            await workers._run(_die)
        again = await workers.encode(served.served().question(2), images)
        assert all(np.array_equal(again.arrays[name], array) for name, array in found.arrays.items())
        return found.arrays

    try:
        arrays = asyncio.run(encoded())
    finally:
        workers.close()
    sources = [(lambda data=data: decode_bytes(data, "x")) for data in images]
    expected = Preparer(served.tiny()[1])(0, Request(served.TASK.prompt, sources)).inputs
    assert set(arrays) == set(expected)
    for name, array in arrays.items():
        assert np.array_equal(array, expected[name].numpy()), name


@pytest.mark.parametrize("processes", [1, 2])
def test_nobody_pays_for_the_image_of_another(processes: int) -> None:
    """Requests beside some that end their process, all at once: each of the others has its answer."""
    workers = ImageWorkers(served.tiny()[1], Caps(), processes)
    turns, images = served.served().question(1), [served.image_bytes(1)]

    async def both() -> tuple[list[Any], list[Any]]:
        deadly = [workers._run(_die) for _ in range(2)]
        innocent = [workers.encode(turns, images) for _ in range(4)]
        mixed = [innocent[0], deadly[0], innocent[1], innocent[2], deadly[1], innocent[3]]
        found = await asyncio.gather(*mixed, return_exceptions=True)
        return [found[place] for place in (1, 4)], [found[place] for place in (0, 2, 3, 5)]

    try:
        ended, answered = asyncio.run(both())
    finally:
        workers.close()
    assert [str(one) for one in ended] == ["an image of this request ended the process that decoded it"] * 2
    expected = answered[0].arrays["input_ids"]
    assert all(np.array_equal(one.arrays["input_ids"], expected) for one in answered)


def test_a_server_with_processes_answers() -> None:
    with served.running(workers=2) as (url, _), httpx.Client(base_url=url, timeout=120) as client:
        body = {"images": [served.data_url(served.image_bytes())]}
        assert client.post("/v1/extract", json=body).json()["fields"] == served.extractor().extract(
            served.image_bytes()
        )
