"""Peak memory of an evaluation and its report by the number of rows, with made-up answers: no model, no images.

    python benchmarks/evaluation_memory.py [--rows 10000 100000] [--json FILE]

Each size runs in a process of its own: rows are read from a table, answered through the journal with real, shuffled,
blank and mismatched images, scored with bootstrap intervals, written, and shown in a report. Memory is the highest
resident set size by the kernel's count, with what the libraries take before the first row told apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.dataset_folder import DatasetCard
from phisight.core.run_folder import write_json
from phisight.core.task import Task
from phisight.evaluate import (
    Images,
    against_baselines,
    evaluate,
    fit_baselines,
    read_rows,
    scores_of,
    verdict_of,
    write_predictions,
)
from phisight.generate import Generation, Predictor, Request
from phisight.report import write_report

CONDITIONS: tuple[Images, ...] = ("real", "shuffled", "blank", "mismatched")
CATEGORIES = [f"CATEGORY {number}" for number in range(40)]


class MadeUp:
    """Answers by the number of the request, right three times out of four."""

    max_new_tokens = 64
    constrained = False
    numbers = "text"

    def __init__(self, task: Task) -> None:
        self.task = task

    def generations(
        self, requests: Iterable[Request], on_failure: Callable[..., None] | None = None
    ) -> Iterator[tuple[int, Generation]]:
        assert on_failure, "images that cannot be used are the caller's to note"
        for index, _ in enumerate(requests):
            text = self.task.render(product(index if index % 4 else index + 1))
            yield index, Generation(text, text)


def product(number: int) -> dict[str, Any]:
    category = CATEGORIES[number % len(CATEGORIES)]
    return {
        "title": f"Made-up product of some length No {number}",
        "category3_code": category,
        "full_price": number + 0.5,
    }


def write_data(folder: Path, rows: int) -> None:
    """A data set folder without its images."""
    lines = [{**product(number), "code": f"P-{number}", "split": "test"} for number in range(rows)]
    table = [{**line, "file_name": f"images/{number}.jpg"} for number, line in enumerate(lines)]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(table), folder / "metadata.parquet")
    DatasetCard(task=Task(), key="code", rows=rows, splits={"test": rows}).write(folder)


def peak() -> float:
    """GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def one_size(data: Path, run: Path) -> None:
    """Evaluate and report; prints figures as JSON."""
    stages = {"libraries": peak()}
    began = time.perf_counter()
    task = Task()
    found = read_rows(data, task, "test")
    stages["rows"] = peak()
    predictor = cast(Predictor, MadeUp(task))
    every = {
        kind: evaluate(predictor, found.rows, task, images=kind, answer_log=run / f"predictions.{kind}.jsonl")
        for kind in CONDITIONS
    }
    stages["answers"] = peak()
    write_predictions(run, list(every.values()))
    stages["written"] = peak()
    scores = scores_of(every)
    truths = [row.truth for row in found.rows]
    scores["baselines"] = against_baselines(every["real"], fit_baselines(task, truths[:5000], truths))
    scores["verdict"] = verdict_of(scores)
    stages["scores"] = peak()
    write_json(run / "scores.json", scores)
    write_report([run])
    stages["report"] = peak()
    size = (run / "report.html").stat().st_size / 1e6
    figures = {"rows": len(found.rows), "seconds": time.perf_counter() - began, "report_mb": size, "peak_gb": stages}
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one_size(*asked.one)
        return
    results = []
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            data, run = Path(folder) / "data", Path(folder) / "run"
            write_data(data, rows)
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(data), str(run)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            stages = "   ".join(f"{name} {value:.2f}" for name, value in results[-1]["peak_gb"].items())
            print(f"{rows:7,} rows   {results[-1]['seconds']:6.1f} s   GB at most after: {stages}", flush=True)
    growth = np.diff([one["peak_gb"]["report"] for one in results]) / np.diff(asked.rows) * 1e6
    print(f"growth {growth.max():.2f} kB a row" if len(growth) else "")
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
