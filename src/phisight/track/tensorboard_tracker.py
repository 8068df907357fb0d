"""TensorBoard: event files in RUN/tensorboard (tensorboardX writes them; no torch needed)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter

from phisight.track.tracker import Example, Pairs

FOLDER = "tensorboard"


class TensorboardTracker:
    """Curves, images with truth and answer as text, the configuration as text; pairs as two histograms."""

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Open event files; those of an earlier process stay and TensorBoard joins them."""
        self._writer = SummaryWriter(logdir=str(run_dir / FOLDER))
        lines = [f"    {name}: {value}" for name, value in config.items()]
        self._writer.add_text("config", "\n".join(lines), 0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, float(value), step)

    def log_examples(self, step: int, rows: Sequence[Example], group: str = "") -> None:
        """Add each image, and its truth and answer as text beside it."""
        name = f"{group}/examples" if group else "examples"
        for position, row in enumerate(rows):
            pixels = np.asarray(Image.open(io.BytesIO(row.image)).convert("RGB"))
            self._writer.add_image(f"{name}/{position}", pixels, step, dataformats="HWC")
            self._writer.add_text(f"{name}/{position}", f"    truth:  {row.truth}\n    answer: {row.answer}", step)

    def log_pairs(self, step: int, pairs: Pairs) -> None:
        """Add the distributions of truth and answer (numbers only; TensorBoard draws no confusion matrix)."""
        if pairs.kind == "number" and len(pairs.truth):
            self._writer.add_histogram(f"{pairs.field}/truth", np.asarray(pairs.truth, dtype=np.float64), step)
            self._writer.add_histogram(f"{pairs.field}/answer", np.asarray(pairs.predicted, dtype=np.float64), step)

    def finish(self, summary: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        """Add the summary as text, close the files."""
        lines = [f"    {name}: {value}" for name, value in {**summary, **artifacts}.items()]
        self._writer.add_text("summary", "\n".join(lines), 0)
        self._writer.close()
