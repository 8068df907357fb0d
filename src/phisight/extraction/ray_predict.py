"""``--engine ray``: the same predictor on a cluster, one model a worker, fed by Ray Data.

    requests --driver's node--> image bytes --a worker a GPU (or core)--> answers --> driver, in any order

Ray deals out the rows and repeats what a lost worker had; the driver stores the answers, so that continuing after a
kill and the finished file are those of the local engine. Local files are read on the driver's node and travel as bytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from phisight.core.errors import EngineError, PhisightError, SettingsError
from phisight.core.task import Task
from phisight.data.build.work.ray_engine import connected_ray
from phisight.extraction.answer import Answer, AnswerReader
from phisight.extraction.extractor import Extractor, travelling
from phisight.generate.requests import Request

_ROUND = 50_000
"""Requests handed to Ray at once: bounds what the driver holds; each round loads the models anew."""
_READ_AT_ONCE = 32
_SCHEMA = pa.schema([("index", pa.int64()), ("answer", pa.string())])

Load = Callable[[], Extractor]


class RayEngine:
    """Answers from the workers of the cluster that Ray is connected to, or starts.

    Args:
        load: Loads the model on a worker.
        workers: How many; None means one for each GPU of the cluster, or else for each node.
    """

    def __init__(self, load: Load, workers: int | None = None) -> None:
        self._load, self._workers = load, workers

    def run(
        self,
        requests: Iterable[tuple[int, Request]],
        reader: AnswerReader,
        *,
        at_once: int,
        workers: int,
    ) -> Iterator[tuple[int, Answer]]:
        """See ``Engine``; only the task of ``reader`` is asked: each worker has the same.

        Raises:
            MissingExtraError: Ray is not installed.
            EngineError: The cluster gave up.
        """
        ray = connected_ray()
        numbered = iter(requests)
        while rows := list(itertools.islice(numbered, _ROUND)):
            try:
                yield from self._round(ray, rows, reader.task, at_once, workers)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, PhisightError):
                    raise cause from error
                line = " ".join(str(error).split())
                raise EngineError(f"Ray gave up: {line[-300:]}; give the same command again: it continues") from error

    def _round(
        self, ray: Any, rows: Sequence[tuple[int, Request]], task: Task, at_once: int, threads: int
    ) -> Iterator[tuple[int, Answer]]:
        cloudpickle: Any = ray.cloudpickle
        count, each = shares([node["Resources"] for node in ray.nodes() if node["Alive"]], self._workers)
        table = pa.table(
            {
                "index": pa.array([index for index, _ in rows], pa.int64()),
                "request": pa.array([cloudpickle.dumps(list(request.images)) for _, request in rows], pa.binary()),
            }
        )
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        blocks = [table.slice(at, _READ_AT_ONCE) for at in range(0, len(table), _READ_AT_ONCE)]
        answers = (
            ray.data.from_arrow(blocks)
            .map_batches(_with_bytes, batch_format="pyarrow", batch_size=None, scheduling_strategy=here, num_cpus=0)
            .map_batches(
                Worker,
                batch_format="pyarrow",
                batch_size=8 * at_once,
                compute=ray.data.ActorPoolStrategy(size=count),
                fn_constructor_args=(self._load, at_once, threads),
                **each,
            )
        )
        for row in answers.iter_rows():
            yield row["index"], _answer(json.loads(row["answer"]), task)


class Worker:
    """One model; Ray calls it with tables of requests."""

    def __init__(self, load: Load, at_once: int, threads: int) -> None:
        self._extractor = load()
        self._at_once, self._threads = at_once, threads

    def __call__(self, table: Any) -> Any:
        """A table of requests (index, request) to one of answers (index, answer)."""
        cloudpickle = _cloudpickle()
        asked = ((row["index"], cloudpickle.loads(row["request"])) for row in table.to_pylist())
        found = self._extractor.answers(asked, batch_size=self._at_once, workers=self._threads)
        rows = [{"index": index, "answer": json.dumps(_plain(answer, self._extractor.task))} for index, answer in found]
        return pa.Table.from_pylist(rows, _SCHEMA)


def _with_bytes(table: Any) -> Any:
    """Requests whose files are read: a worker on another node may not see them."""
    cloudpickle: Any = _cloudpickle()
    found = []
    for row in table.to_pylist():
        images = [travelling(image) for image in cloudpickle.loads(row["request"])]
        found.append(cloudpickle.dumps(images))
    return pa.table({"index": table["index"], "request": pa.array(found, pa.binary())})


def _cloudpickle() -> Any:
    from ray import cloudpickle

    return cloudpickle


def _plain(answer: Answer, task: Task) -> dict[str, Any]:
    return {
        "fields": task.as_json(answer),
        "text": answer.text,
        "confidence": answer.confidence,
        "interval": answer.interval,
        "unfamiliar": answer.unfamiliar,
        "error": answer.error,
    }


def _answer(plain: dict[str, Any], task: Task) -> Answer:
    interval = {name: (low, high) for name, (low, high) in plain["interval"].items()}
    return Answer(
        {name: None if value is None else task.fields[name].typed(value) for name, value in plain["fields"].items()},
        text=plain["text"],
        confidence=plain["confidence"],
        interval=interval,
        unfamiliar=plain["unfamiliar"],
        error=plain["error"],
        task=task,
    )


def shares(nodes: Sequence[Mapping[str, float]], workers: int | None) -> tuple[int, dict[str, float]]:
    """How many workers a cluster gets, and what each of them takes of it; all of them fit at once.

    Args:
        nodes: Resources of each node (``GPU``, ``CPU``).
        workers: How many are wanted; None means one for each GPU, or else for each node that has a CPU.

    Raises:
        SettingsError: More workers than the cluster has GPUs or CPUs: Ray would wait for ever.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    cores = [count for node in nodes if (count := int(node.get("CPU", 0)))]
    most, what = (gpus, "GPUs") if gpus else (sum(cores), "CPUs")
    if not most:
        raise EngineError("the cluster of Ray has neither a GPU nor a CPU that is free for models; add a node")
    if workers and workers > most:
        raise SettingsError(
            f"--ray-workers {workers} is more than the {most} {what} of the cluster, one for each at least; give "
            f"{most} or fewer, or add nodes"
        )
    if gpus:
        return workers or gpus, {"num_gpus": 1}
    count = workers or len(cores)
    return count, {"num_cpus": next(one for one in range(max(cores), 0, -1) if sum(n // one for n in cores) >= count)}
