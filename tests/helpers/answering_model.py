"""A model folder of random weights whose answers are readable all the same: held to the template, and of many kinds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phisight.core.task import Task
from phisight.export.task_file import FieldCalibration, NumberInterval, TaskFile
from phisight.extraction.answer import Answer
from phisight.extraction.extractor import Extractor, LocalEngine
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from phisight.workflows.extract import load_extractor

TASK = Task(
    answer="Name: {title}, Kind: {kind}, Price: {price}",
    fields={"title": "text", "kind": "category", "price": "number"},
)
KINDS = ["HATS", "SHOES", "BAGS & MORE"]


def save_answering_model(folder: Path, seed: int = 3) -> Path:
    """Model, processor and task file; answers end at different lengths."""
    rows: list[dict[str, Any]] = [
        {"title": f"Thing {row}", "kind": KINDS[row % 3], "price": 10.0 * row + 90} for row in range(30)
    ]
    processor = tiny_processor([TASK.render(row) for row in rows] * 3 + [TASK.prompt], vocab_size=400)
    model = tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2), seed=seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    TaskFile(
        task=TASK,
        max_new_tokens=60,
        constrained=True,
        categories={"kind": KINDS},
        ranges={"price": (10.0, 900.0)},
        intervals={"price": NumberInterval(level=0.8, logarithmic=False, radius=2.5, rows=50)},
        calibration={"title": FieldCalibration(raw=[0.0, 1.0], calibrated=[0.25, 0.75], rows=50)},
    ).write(folder)
    return folder


def dying_extractor(model: str, marker: str) -> Extractor:
    """The model, whose process is killed after a few answers, once: a file says that it has been."""

    class Dying(LocalEngine):
        def run(self, *arguments: Any, **options: Any) -> Iterator[tuple[int, Answer]]:
            for number, one in enumerate(super().run(*arguments, **options)):
                yield one
                if number == 2 and not Path(marker).exists():
                    Path(marker).write_text(str(os.getpid()))
                    os.kill(os.getpid(), signal.SIGKILL)

    found = load_extractor(model)
    engine = found.engine
    assert isinstance(engine, LocalEngine)
    found.engine = Dying(engine.model, engine.processor, engine.max_new_tokens, engine.grammar, engine.numbers)
    return found


def save_photos(folder: Path, count: int) -> list[Path]:
    """Images that all differ, of different shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    files = []
    for number in range(count):
        height, width = (int(side) for side in draw.integers(60, 200, 2))
        files.append(folder / f"{number:04}.png")
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(files[-1], compress_level=1)
    return files
