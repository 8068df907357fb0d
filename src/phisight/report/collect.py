"""Run folders -> what the report shows. Reads files only: no model, no torch, no network.

A run need not be finished: what is not there yet is named in the report. Memory stays flat for large evaluations:
predictions are read in pieces, and only the rows that are shown are stored.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from phisight.core import dataset_folder, run_folder
from phisight.core.errors import RunError
from phisight.core.migrations import current_names, translate
from phisight.core.read_files import read_object, read_yaml
from phisight.core.recipe import current_config
from phisight.core.seeding import hashed_fraction
from phisight.core.task import Task
from phisight.track import EXAMPLES, SUMMARY, read_metrics, read_steps

MAX_IMAGES = 500
"""Images shown at most, over all runs of a report."""
SCATTER = 1500
"""Points of a scatter at most; a sample fixed by the row numbers."""
EXAMPLE_ROWS = 24
_BATCH = 512


@dataclass(frozen=True)
class Shown:
    """A row of predictions.parquet that the report shows."""

    row: int
    key: str
    truth: Mapping[str, Any]
    predicted: Mapping[str, Any] | None
    expected: str
    answer: str | None
    reason: str | None
    error: float
    thumbnail: bytes
    drawn: bool
    """Belongs to the random sample (not only to the worst)."""
    lower: Mapping[str, float] | None = None
    """Lower ends of the intervals around the numbers."""
    upper: Mapping[str, float] | None = None
    group: str | None = None
    """Rows of one product have the same; None in files of earlier versions."""


@dataclass
class ExampleRow:
    """A product whose answers were logged during training."""

    key: str
    image: bytes | None
    truth: str
    answers: dict[int, str] = field(default_factory=dict)
    """Answer by step."""


@dataclass
class RunData:
    """Everything a report says about one run."""

    name: str
    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    examples: list[ExampleRow] = field(default_factory=list)
    task: Task | None = None
    shown: list[Shown] = field(default_factory=list)
    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """(truth, answer) of each number field."""
    answered: int = 0
    """Rows with real images in predictions.parquet."""
    outdated: bool = False
    """Figures and answers are of an earlier model than the run's, and are left out."""
    missing: list[str] = field(default_factory=list)
    """Files that are not there, and what to do about it."""

    @property
    def steps(self) -> list[int]:
        """Steps at which examples were logged."""
        return sorted({step for example in self.examples for step in example.answers})


def collect(run_dir: Path, images: int = MAX_IMAGES) -> RunData:
    """Read a run folder; RunError when it holds nothing of a run."""
    if not run_dir.is_dir():
        raise RunError(f"there is no run folder {run_dir}; train one with `phisight train RECIPE.yaml`")
    run = RunData(name=run_dir.resolve().name, path=run_dir)
    if run_dir.resolve().parent.name == run_folder.EVALUATIONS:  # what was trained stands in the run it belongs to
        owner = run_dir.resolve().parents[1]
        run = collect(owner, images=0)
        run.name, run.path, run.missing = f"{owner.name}, {run_dir.resolve().name}", run_dir, []
        run.examples, run.curves = [], {}
        return _read_results(run, run_dir, images, owner)
    run.config = current_config(_yaml(run_dir / run_folder.CONFIG), run_dir / run_folder.CONFIG)
    run.environment = _json(run_dir / run_folder.ENVIRONMENT)
    run.card = translate("dataset", _json(run_dir / dataset_folder.CARD))
    run.summary = translate("metrics", _json(run_dir / SUMMARY).get("summary", {}))
    run.curves = {name: points for name, points in read_metrics(run_dir).items() if _drawable(points)}
    run.examples = _examples(run_dir)
    _read_results(run, run_dir, images, run_dir)
    if not (run.config or run.scores or run.curves or run.task):
        raise RunError(
            f"{run_dir} is no run folder: it holds none of {run_folder.CONFIG}, {run_folder.METRICS}, "
            f"{run_folder.SCORES}; name the folder that `phisight train` wrote"
        )
    if not (run.scores or run.outdated):
        run.missing.append(f"{run_folder.SCORES}: this run has not been evaluated; run `phisight evaluate {run_dir}`")
    if not run.curves:
        run.missing.append(f"{run_folder.METRICS}: nothing was logged during training")
    if run.scores and run.task is None:
        run.missing.append(f"{run_folder.PREDICTIONS}: no answers to show; run `phisight evaluate {run_dir}`")
    return run


def _read_results(run: RunData, folder: Path, images: int, owner: Path) -> RunData:
    """Scores and answers of a folder, in the place of those that the run has; none of a model that was replaced."""
    scores = translate("scores", _json(folder / run_folder.SCORES))
    run.shown, run.pairs, run.answered = [], {}, 0
    run.outdated = run_folder.is_outdated(scores, owner)
    if run.outdated:
        run.scores, run.task = {}, None
        run.missing.append(
            f"{run_folder.SCORES}: its figures are of an earlier model in this folder, and are not shown; run "
            f"`phisight evaluate {owner}` again"
        )
        return run
    run.scores = scores
    _read_predictions(run, folder / run_folder.PREDICTIONS, images)
    return run


def _drawable(points: list[tuple[int, float]]) -> bool:
    return any(math.isfinite(value) for _, value in points)


def _json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; {} where there is no file."""
    if not path.is_file():
        return {}
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{error}; delete it and run the stage that wrote it again") from error


def _yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML file; {} where there is no file, or nothing in it."""
    if not path.is_file():
        return {}
    try:
        value = read_yaml(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{error}; correct it") from error
    if not isinstance(value, (dict, type(None))):
        raise RunError(f"{path} holds a {type(value).__name__}, no settings; correct it")
    return value or {}


def _examples(run_dir: Path) -> list[ExampleRow]:
    """Products by key in the order in which they first came up, each with its answers by step."""
    found: dict[tuple[str, str], ExampleRow] = {}
    for line in read_steps(run_dir / EXAMPLES):
        for row in line["rows"]:
            name = (row["key"], row["image"])
            if name not in found:
                if len(found) == EXAMPLE_ROWS:
                    continue
                found[name] = ExampleRow(row["key"], _image_file(run_dir, row["image"]), row["truth"])
            found[name].answers[line["step"]] = row["answer"]
    return list(found.values())


def _image_file(run_dir: Path, name: str) -> bytes | None:
    path = (run_dir / name).resolve()
    if not path.is_relative_to(run_dir.resolve()) or not path.is_file():
        return None
    return path.read_bytes()


def _read_predictions(run: RunData, path: Path, images: int) -> None:
    if not path.is_file():
        return
    file = pq.ParquetFile(path)
    try:
        run.task = Task.model_validate_json(file.schema_arrow.metadata[b"phisight.task"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} does not say its task; evaluate the run again") from error
    worst: list[tuple[float, int, Shown]] = []
    drawn: list[tuple[float, int, Shown]] = []
    points: dict[str, list[tuple[float, tuple[float, float]]]] = {name: [] for name in run.task.of_kind("number")}
    for line in _real(file):
        run.answered += 1
        chance = hashed_fraction(0, "report", line["row"])
        _keep_points(points, line, chance)
        if line["thumbnail"] is None:
            continue
        shown = Shown(**{name: line[name] for name in Shown.__dataclass_fields__ if name in line})
        _keep(worst, (shown.error, -shown.row, shown), images)
        if shown.drawn:
            _keep(drawn, (chance, -shown.row, shown), images // 2)
    chosen = {shown.row: shown for _, _, shown in drawn}
    for _, _, shown in sorted(worst, reverse=True):
        if len(chosen) < images:
            chosen[shown.row] = shown
    run.shown = sorted(chosen.values(), key=lambda shown: (-shown.error, shown.row))
    run.pairs = {name: [pair for _, pair in sorted(heap)] for name, heap in points.items()}


def _real(file: Any) -> Iterator[dict[str, Any]]:
    held = current_names("predictions", file.schema_arrow.names)
    columns = [name for name in (*Shown.__dataclass_fields__, "images") if name in held]
    for batch in file.iter_batches(_BATCH, columns=[held[name] for name in columns]):
        for line in batch.select([held[name] for name in columns]).rename_columns(columns).to_pylist():
            if line["images"] == "real":
                yield line


def _keep(heap: list[Any], item: tuple[float, int, Shown], most: int) -> None:
    """The ``most`` largest items seen so far."""
    if len(heap) < most:
        heapq.heappush(heap, item)
    elif heap and item > heap[0]:
        heapq.heapreplace(heap, item)


def _keep_points(points: dict[str, list[Any]], line: Mapping[str, Any], chance: float) -> None:
    if line["predicted"] is None:
        return
    for name, heap in points.items():
        pair = (line["truth"][name], line["predicted"][name])
        if None in pair:
            continue
        if len(heap) < SCATTER:
            heapq.heappush(heap, (-chance, pair))
        elif chance < -heap[0][0]:
            heapq.heapreplace(heap, (-chance, pair))
