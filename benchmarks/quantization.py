"""What ``phisight predict --quantize`` costs: fields right, and how much memory it saves, on the same rows in one run.

    python benchmarks/quantization.py RUN [--data DIR] [--rows 500] [--json FILE]

RUN is a run or an export, ``--data`` a data set folder with a test split (else the run's own). A number counts as
right within a tenth of the truth, anything else exactly. Differences are over the same rows, with a 95 % bootstrap
interval.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAYS: tuple[Any, ...] = (None, "8bit", "4bit")


def decoder_bytes(model: Any) -> int:
    """Bytes of the decoder's layers as they are held, quantization states included."""
    total = 0
    for parameter in model.model.layers.parameters():
        total += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        total += state.absmax.nbytes if state is not None else 0
    return total


def rights_of(extractor: Any, data: Any, rows: list[dict[str, Any]]) -> tuple[dict[str, NDArray[np.bool_]], float]:
    """For each field whether each row's answer is right, and images a second."""
    from phisight.evaluate.metrics import TOLERANCE

    task = extractor.task
    found = {name: np.zeros(len(rows), dtype=bool) for name in task.names}
    start = time.perf_counter()
    images = ((index, [data.image_path(row)]) for index, row in enumerate(rows))
    for index, answer in extractor.answers(images, batch_size=32, workers=2):
        truth = task.values(rows[index])
        for name in task.names:
            given = task.fields[name].typed(answer[name]) if answer.get(name) is not None else None
            near = None not in (truth[name], given) and task.fields[name].rules.is_right(truth[name], given, TOLERANCE)
            found[name][index] = answer.ok and (near or truth[name] is given is None)
    return found, len(rows) / (time.perf_counter() - start)


def interval(difference: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of a mean."""
    draw = np.random.default_rng(0)
    means = [difference[draw.integers(0, len(difference), len(difference))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()

    from phisight.data.dataset.folder import DatasetFolder
    from phisight.export.subject import data_of_run, read_trained_run
    from phisight.workflows.extract import load_extractor

    data = DatasetFolder.open(asked.data or data_of_run(asked.run, read_trained_run(asked.run)))
    rows = list(data.rows("test"))[: asked.rows]
    rights: dict[str, dict[str, NDArray[np.bool_]]] = {}
    figures: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        extractor = load_extractor(asked.run, quantize=way)
        name = way or "as it is"
        engine: Any = extractor.engine
        size = decoder_bytes(engine.model)
        rights[name], speed = rights_of(extractor, data, rows)
        figures[name] = {"decoder_bytes": size, "images_per_s": speed}
        print(f"{name}: decoder {size / 1e6:.2f} MB, {speed:.1f} images/s")
        for field, right in rights[name].items():
            plain = rights["as it is"][field]
            low, high = interval(right.astype(float) - plain)
            change = f", {right.mean() - plain.mean():+.1%} ({low:+.1%} to {high:+.1%})" if way else ""
            print(f"  {field}: {right.mean():.1%} right{change}")
            figures[name] |= {f"{field}_right": float(right.mean()), f"{field}_interval": [low, high]}
    if asked.json:
        asked.json.write_text(json.dumps({"rows": len(rows), **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
