"""The same build on Ray Data: addresses go out to a cluster, checked images come back. Extra: ``phisight[ray]``.

Ray deals out the work, moves the blocks and repeats what a lost node had; the driver stores the images and keeps the
journal, so resume, rejects and the finished bytes are those of the local engine. Nothing but the driver needs to see
the folder; local files are read by the driver and travel as bytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from phisight.core.errors import MissingExtraError, PhisightError
from phisight.data.build.work.download import OnResults, run_to_end
from phisight.data.build.work.image_store import ImageStore
from phisight.data.build.work.worklog import STORED, Entry, entry
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job
from phisight.data.images.decode import ImageLimits, prepare_image
from phisight.data.images.rejection import Rejection, StoredImage, internal

_JOBS_A_TASK = 64
_JOBS_A_ROUND = 4096
"""Jobs handed to Ray at once: bounds what the driver and the object store hold, however long the list."""


def connected_ray() -> Any:
    """Ray, connected to the cluster there is or to one that it starts here; MissingExtraError without Ray."""
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise MissingExtraError("--engine ray", "ray") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def download_on_ray(jobs: Iterator[Job], store: ImageStore, on_results: OnResults, limits: FetchLimits) -> None:
    """Run every job on the cluster Ray is connected to (or starts); MissingExtraError without Ray."""
    ray = connected_ray()
    task: Any = download_batch  # Ray types batches of every format at once
    while batch := list(itertools.islice(jobs, _JOBS_A_ROUND)):
        blocks = [_table(batch[at : at + _JOBS_A_TASK]) for at in range(0, len(batch), _JOBS_A_TASK)]
        results = ray.data.from_arrow(blocks).map_batches(
            task,
            batch_format="pyarrow",
            batch_size=_JOBS_A_TASK,
            fn_kwargs={"limits": store.limits, "fetch": limits},
        )
        for row in results.iter_rows():
            on_results([_stored(row, store)])


def _table(jobs: list[Job]) -> pa.Table:
    rows = [{"token": job.token, "url": job.url, "body": _body(job)} for job in jobs]
    return pa.Table.from_pylist(rows, pa.schema([("token", pa.string()), ("url", pa.string()), ("body", pa.binary())]))


def _body(job: Job) -> bytes | None:
    if job.path is None:
        return job.body
    with open(job.path, "rb") as file:  # noqa: PTH123 - a path that was checked
        return file.read()


def download_batch(table: Any, limits: ImageLimits, fetch: FetchLimits) -> Any:
    """One task on one node: a table of jobs (token, url, body) in, one of results with the bytes to store out."""
    found: list[dict[str, Any]] = []
    pending = iter(table.to_pylist())

    async def work() -> None:
        import asyncio

        from phisight.data.fetch.client import Fetcher

        async with Fetcher(fetch, limits.max_bytes) as fetcher:

            async def one() -> None:
                for row in pending:
                    found.append(await _download(row, fetcher, limits))

            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(fetch.per_host, _JOBS_A_TASK)):
                    tasks.create_task(one())

    run_to_end(work())
    names = [("token", pa.string()), ("kind", pa.string()), ("result", pa.string()), ("data", pa.binary())]
    return pa.Table.from_pylist(found, pa.schema(names))


async def _download(row: dict[str, Any], fetcher: Any, limits: ImageLimits) -> dict[str, Any]:
    try:
        if row["body"] is not None:
            body = row["body"]
        else:
            with await fetcher.fetch(row["url"]) as file:
                body = file.read()
        stored, data = prepare_image(body, limits)
    except Rejection as rejection:
        return _result(entry(row["token"], rejection), None)
    except PhisightError:
        raise
    except Exception as error:  # whatever an image holds, it never ends the build
        return _result(entry(row["token"], internal(error)), None)
    return _result(entry(row["token"], stored), data)


def _result(written: Entry, data: bytes | None) -> dict[str, Any]:
    token, kind, text = written
    return {"token": token, "kind": kind, "result": text, "data": data}


def _stored(row: dict[str, Any], store: ImageStore) -> Entry:
    if row["kind"] == STORED:
        store.write(StoredImage.from_dict(json.loads(row["result"])), row["data"])
    return row["token"], row["kind"], row["result"]
