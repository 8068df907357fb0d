"""An evaluation: its model and rows, and where it goes. The run's own results are never replaced by those of a sample.

RUN/scores.json                  the last full evaluation of the recipe's split
RUN/evaluations/NAME/            any other split, data set or number of rows: validation, test-5-rows, shop-test
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import Split
from phisight.core.errors import EvaluationError, ImageError
from phisight.core.geometry import CROP_SIZE, hd_grid
from phisight.core.run_folder import ANSWER_LOG, BEST, EVALUATIONS, FINGERPRINT, UNFAMILIAR
from phisight.core.settings import EvaluateSettings, Recipe
from phisight.core.task import Task
from phisight.evaluate import EvalRow, EvalRows, Images, Predictions, evaluate, read_rows, sample_of
from phisight.evaluate.image_conditions import grids_of
from phisight.evaluate.limits.foreign import refusing
from phisight.export.subject import data_of_run
from phisight.extraction.familiarity import Familiarity
from phisight.generate import Predictor
from phisight.generate.decoding.schedulable import unschedulable
from phisight.track import CompositeTracker
from phisight.workflows.predict import TowerFeatures, fitted_familiarity, predictor_of, unfamiliar_scores

_LOG = logging.getLogger(__name__)

FAMILIAR_ROWS = 1000
"""Most rows of a split whose images say what familiar ones look like, or are compared with them."""
INTERVAL_ROWS = 1000
"""Most validation rows that are answered for intervals and calibration; levels then hold to about a percent."""

Progress = Callable[[str, int, int], None]
"""Called with the image condition (or ``base_model``), answers given and answers wanted."""


@dataclass(frozen=True)
class Evaluation:
    """A model that is evaluated: its rows, and where the results go."""

    model: Any
    processor: Any
    recipe: Recipe
    settings: EvaluateSettings
    task: Task
    folder: Path
    found: EvalRows
    run: Path | None
    """The run folder; None for a model that is no run."""
    out: Path
    """Where the results go."""
    identity: str
    """Changes when the weights do, so that neither answers nor figures of earlier ones are taken over."""
    progress: Progress
    tracker: CompositeTracker | None
    refuses: bool = True
    """Whether images unlike the training images are refused, as a prediction does, where answers may abstain."""

    def answers(
        self,
        images: Images,
        name: str | None = None,
        rows: Sequence[EvalRow] | None = None,
        grids: Sequence[Hashable] | None = None,
    ) -> Predictions:
        """Answers under one image condition, written to an answer log as they come; see ``refusing``.

        Of all rows, or of ``rows`` with their ``grids`` where images are swapped.
        """
        name, asked = name or images, self.found.rows if rows is None else rows
        found = evaluate(
            self.predictor,
            asked,
            self.task,
            images=images,
            seed=self.recipe.seed,
            answer_log=self.out / f"{ANSWER_LOG}.{name}.jsonl",
            identity=self.identity,
            medians=self.found.medians,
            grids=self.grids if rows is None else grids,
            progress=lambda done, total: self.progress(name, done, total),
        )
        return refusing(found, self.unfamiliar(asked)) if self.limit else found

    @cached_property
    def features(self) -> TowerFeatures:
        """The tower's features of images, for baselines and familiarity."""
        return TowerFeatures(self.model, self.processor)

    @cached_property
    def familiarity(self) -> Familiarity:
        """What says how unlike the training images an image is: fitted on those of the run's own data set, which is
        written beside its weights; on another data set the one that is there.

        EvaluationError or ImageError where it cannot be fitted.
        """
        run, seed = self.run, self.recipe.seed
        own = run is not None and self.folder.resolve() == data_of_run(run, self.recipe).resolve()
        weights = Path(self.recipe.model.name) if run is None else run / BEST
        stored = None if own else Familiarity.read(weights / UNFAMILIAR)
        if stored is not None:
            return stored
        train = [self.training_rows[one] for one in sample_of(self.training_rows, FAMILIAR_ROWS, seed)]
        validation = self.other_rows("validation", FAMILIAR_ROWS)
        known = fitted_familiarity(self.features, train, validation, self.settings.false_alarms)
        if own:
            known.write(weights)
        return known

    @cached_property
    def limit(self) -> Familiarity | None:
        """Above whose threshold an image is refused; None where answers may not abstain, or nothing could be fitted."""
        if not self.refuses or not self.task.abstains:
            return None
        try:
            return self.familiarity
        except (EvaluationError, ImageError) as error:
            _LOG.warning("no image is refused as unlike the training images: %s", error)
            return None

    @cached_property
    def _scores(self) -> dict[tuple[Path, ...], float]:
        return {}

    def unfamiliar(self, rows: Sequence[EvalRow]) -> list[float]:
        """How unfamiliar each row is, computed once; nan where an image cannot be used."""
        new = {row.images: row for row in rows if row.images not in self._scores}
        scores = unfamiliar_scores(self.familiarity, self.features, list(new.values()))
        self._scores.update(zip(new, scores, strict=True))
        return [self._scores[row.images] for row in rows]

    @cached_property
    def grids(self) -> list[Hashable]:
        """The crops that the model makes of each row's images."""
        image_processor = self.processor.image_processor
        crops = getattr(image_processor, "num_crops", 1), getattr(image_processor, "crop_size", CROP_SIZE)

        def grid(width: int, height: int) -> tuple[int, int]:
            found = hd_grid(width, height, *crops)
            return found.rows, found.columns

        return grids_of(self.found.rows, grid)

    @cached_property
    def training_rows(self) -> list[EvalRow]:
        """All usable rows of the training split; EvaluationError where there are none."""
        return self.other_rows("train")

    def other_rows(self, split: Split, limit: int | None = None) -> list[EvalRow]:
        """Rows of another split of the same data set."""
        recipe = self.recipe
        found = read_rows(self.folder, self.task, split, limit=limit, seed=recipe.seed, images=recipe.data.images)
        return found.rows

    def validation_answers(self, real: Predictions) -> list[Predictions]:
        """Answers to at most ``INTERVAL_ROWS`` rows of the validation split with their own images, in one or two parts.

        Where that split is the one that is evaluated, rows that ``real`` holds are not answered again.

        Raises:
            EvaluationError: There is no validation split.
        """
        rows = self.other_rows("validation", INTERVAL_ROWS)
        known: dict[tuple[Any, ...], int] = {}
        if self.settings.split == "validation":
            known = {(row.key, row.images, row.expected): index for index, row in enumerate(real.rows)}
        indices = [known.get((row.key, row.images, row.expected)) for row in rows]
        there = [index for index in indices if index is not None]
        rest = [row for row, index in zip(rows, indices, strict=True) if index is None]
        parts = [real.subset(there)] if there else []
        return [*parts, self.answers("real", "validation", rest)] if rest else parts

    def require_confidences(self) -> None:
        """EvaluationError where answers of this model do not say how sure it was of them."""
        if reason := unschedulable(self.model):
            raise EvaluationError(f"confidences come from continuous batching, which {reason}")

    def warning(self) -> str | None:
        """That answers will be cut, known before the first one; logged."""
        try:
            answers = [row.expected for row in self.training_rows]
        except EvaluationError:
            answers = [row.expected for row in self.found.rows]
        warning = length_warning(self.processor.tokenizer, answers, self.settings.max_new_tokens)
        if warning:
            _LOG.warning("%s", warning)
        return warning

    @cached_property
    def predictor(self) -> Predictor:
        """Model, processor and settings as what answers."""
        numbers, data = self.recipe.train.numbers, [data_of_run(self.out, self.recipe), self.folder]
        return predictor_of(
            self.model, self.processor, self.settings, numbers, self.task, data, run=self.run, continuous=True
        )


def results_folder(run: Path, recipe: Recipe, settings: EvaluateSettings, data: Path) -> Path:
    """The run folder for the recipe's own evaluation, else a folder named after what is different."""
    own = recipe.evaluate
    other_data = data.resolve() not in (recipe.data.path.resolve(), data_of_run(run, recipe).resolve())
    if settings.split == own.split and settings.rows == own.rows and not other_data:
        return run
    parts = [data.resolve().name] if other_data else []
    parts.append(settings.split)
    parts += [f"{settings.rows}-rows"] if settings.rows is not None else []
    return run / EVALUATIONS / "-".join(parts)


def evaluation_facts(recipe: Recipe, settings: EvaluateSettings, data: Path, fingerprint: str) -> dict[str, Any]:
    """Key ``evaluation`` of scores.json: which model answered which rows, and when."""
    return {
        "model": recipe.model.name,
        FINGERPRINT: fingerprint,
        "data": str(data),
        "split": settings.split,
        "limit": settings.rows,
        "constrained": settings.constrained,
        "max_new_tokens": settings.max_new_tokens,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def length_warning(tokenizer: Any, answers: Sequence[str], max_new_tokens: int) -> str | None:
    """What to do where the longest of some training answers does not fit into an answer; None where it does."""
    longest = sorted(answers, key=len)[-100:]  # the answer of most tokens is among those of most characters
    if not longest:
        return None
    most = max(len(ids) for ids in tokenizer(longest, add_special_tokens=False).input_ids) + 1
    if most <= max_new_tokens:
        return None
    return (
        f"the longest training answer has {most} tokens with its end, and evaluate.max_new_tokens = {max_new_tokens}: "
        f"longer answers are cut and count as unread; set it to {most * 5 // 4} or more"
    )
