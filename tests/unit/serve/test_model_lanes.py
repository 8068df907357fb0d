"""Threads that share the jobs: each job goes to the least busy one, and the answers are those of one alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import torch

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.generate.decoding.sampling import Decoding
from phisight.serve.engine.image_workers import Encoded
from phisight.serve.engine.job import Job
from phisight.serve.engine.model_lanes import ModelLanes
from tests.helpers import served

ENCODED = Encoded({"input_ids": np.zeros((1, 1), dtype=np.int64)}, 0.0)


class Recorded:
    """In place of a thread."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.cancelled: list[Job] = []

    def put(self, job: Job, _encoded: Encoded) -> None:
        self.jobs.append(job)

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job)


def job(choices: int = 1) -> Job:
    return Job("somebody", [], [], [Decoding(4)] * choices)


def test_each_job_goes_to_the_lane_with_the_fewest_choices() -> None:
    made: list[Recorded] = []

    def make() -> Any:
        made.append(Recorded())
        return made[-1]

    lanes = ModelLanes(make, 2)
    first, second, third, fourth = job(3), job(), job(), job()
    for one in (first, second, third):
        lanes.put(one, ENCODED)
    assert [lane.jobs for lane in made] == [[first], [second, third]]
    first.open_choices = 0  # it has ended
    lanes.put(fourth, ENCODED)
    assert [lane.jobs for lane in made] == [[first, fourth], [second, third]]
    lanes.cancel(third)
    assert [lane.cancelled for lane in made] == [[], [third]]


def test_answers_of_two_lanes_are_those_of_one_alone() -> None:
    """Fields, held to the task or to another schema, and their confidences; both lanes have answered."""
    images = [served.image_bytes(seed) for seed in range(8)]
    alone = served.extractor()
    form = {"type": "json_schema", "json_schema": {"name": "other", "schema": served.OTHER_SCHEMA}}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with (
            served.running(max_sequences=16) as (url, server),
            httpx.Client(base_url=url, timeout=120) as client,
            ThreadPoolExecutor(8) as asking,
        ):
            assert len(server.engine._lanes._lanes) == 2
            steps = [lane._scheduler for lane in server.engine._lanes._lanes]
            joined = [0, 0]
            for number, scheduler in enumerate(steps):

                def counted(requests: Any, number: int = number, join: Any = scheduler.join) -> Any:
                    joined[number] += len(requests)
                    return join(requests)

                scheduler.join = counted  # type: ignore[method-assign]

            def fields(image: bytes) -> dict[str, Any]:
                found = client.post("/v1/extract", json={"images": [served.data_url(image)]})
                return dict(found.raise_for_status().json())

            def other(image: bytes) -> str:
                content = served.asked(served.data_url(image))[0]["content"]
                found = served.chat(client, content, max_tokens=60, response_format=form, temperature=0)
                return str(found.raise_for_status().json()["choices"][0]["message"]["content"])

            answers = list(asking.map(fields, images))
            together = list(asking.map(other, images))
            apart = [other(image) for image in images]
    finally:
        torch.set_num_threads(before)
    for image, found in zip(images, answers, strict=True):
        expected = alone.extract(image)
        assert found["fields"] == expected
        assert found["confidence"] == pytest.approx(expected.confidence, abs=1e-4)
    assert together == apart
    assert min(joined) > 0, f"requests of each lane: {joined}"
