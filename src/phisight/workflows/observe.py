"""A fresh process that loads one model, answers some rows and stores what it saw.

An export is compared with its run this way: two models are never in memory together, and what is loaded is what lies on
disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phisight.core.errors import CheckpointError
from phisight.core.settings import EvaluateSettings, ModelSettings, Numbers
from phisight.core.task import Task
from phisight.export.compare import Observation, greedy_logits


def observed(
    subject: str,
    rows: Sequence[Sequence[Path]],
    task: Task,
    numbers: Numbers,
    model: ModelSettings,
    most: int,
    out: Path,
) -> Observation:
    """What a model answers about the images of each row, found by another process; ``out`` is where it notes it."""
    asked = {
        "subject": subject,
        "rows": [[str(image) for image in images] for images in rows],
        "task": task.model_dump(mode="json"),
        "numbers": numbers,
        "model": model.model_dump(mode="json"),
        "most": most,
        "out": str(out),
    }
    done = subprocess.run(
        [sys.executable, "-m", "phisight.workflows.observe"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise CheckpointError(f"{subject} cannot be loaded and asked in a fresh process: {last[:300]}")
    return Observation.read(out)


def _observe(asked: dict[str, Any]) -> None:
    from phisight.generate import Request, load_rgb
    from phisight.workflows.load import is_run, load_model, load_run
    from phisight.workflows.predict import predictor_of

    subject, settings = Path(asked["subject"]), ModelSettings.model_validate(asked["model"])
    model, processor = load_run(subject)[:2] if is_run(subject) else load_model(asked["subject"], settings)
    task, rows = Task.model_validate(asked["task"]), [[Path(image) for image in row] for row in asked["rows"]]
    answering = EvaluateSettings(batch_size=1, max_new_tokens=asked["most"])
    predictor = predictor_of(model, processor, answering, asked["numbers"], task, [])
    texts = dict(predictor.answers([Request(task.prompt, row) for row in rows]))
    dtype = str(model.dtype).removeprefix("torch.")
    logits = []
    if dtype == "float32":
        model.eval()
        for row in rows:
            images = [load_rgb(image) for image in row]
            logits.append(greedy_logits(model, processor, task.prompt, images, asked["most"]))
    Observation(dtype, [texts[row] for row in range(len(rows))], logits).write(Path(asked["out"]))


if __name__ == "__main__":
    _observe(json.load(sys.stdin))
