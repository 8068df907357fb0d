"""Recipe to plan: tokens, steps, memory, hours and cost of a run; no image is opened and no weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.foreign_images import foreign_count, foreign_examples
from phisight.export.model_folder import read_config, read_processor
from phisight.export.subject import subject_of
from phisight.model.tiny import tiny_config, tiny_processor
from phisight.train.estimate.cards import CARDS, Card
from phisight.train.estimate.flops import Cached
from phisight.train.estimate.memory_plan import Batch, ImageTokens, Memory, image_token_table
from phisight.train.estimate.planned_pairs import PlannedPairs
from phisight.train.estimate.planned_run import DevicePlan, PlannedRun, Setting, method_name
from phisight.train.estimate.time_plan import Work, speed_of_this_cpu
from phisight.train.examples.abstaining import TrainingImages
from phisight.train.loader import planned_steps
from phisight.workflows.load import TINY, loading, split_rows
from phisight.workflows.preference_training import check_objective, pair_set

SWEPT_CROPS = (1, 4, 9, 16)
"""Values of num_crops that a sweep compares."""


@dataclass(frozen=True)
class Plan:
    """What a run will take."""

    rows: int
    steps: int
    steps_per_epoch: int
    padding: float
    batch: Batch
    num_crops: int
    images: list[ImageTokens]
    memory: dict[str, Memory]
    """By method; ``+ tower`` where the tower trains."""
    chosen: str
    """The recipe's own method."""
    work: Work
    cached: Cached
    devices: list[DevicePlan]
    recommended: Setting | None
    """The fastest setting for the card that was named, at the recipe's num_crops or, where none of these fits, the next
    smaller of ``SWEPT_CROPS``; None where no card was named or nothing fits."""
    by_card: list[tuple[Card, Setting | None]]
    """The same for every card; None where nothing fits."""
    sweep: list[Setting]
    """The same for each of ``SWEPT_CROPS``, where asked for."""
    sides: int = 1
    """Sequences of an example: the sides of a pair."""
    reference_bytes: int = 0
    """Reference scores of the pairs on disk."""


def plan(
    recipe: Recipe,
    *,
    price: float | None = None,
    card: Card | None = None,
    sweep: bool = False,
    measure_cpu: bool = True,
) -> Plan:
    """Plan a run on one device; ``train/estimate/`` says what is counted.

    Args:
        recipe: What would be trained.
        price: Of an hour, in whatever currency.
        card: The card that settings are recommended for.
        sweep: Whether to compare values of num_crops on it.
        measure_cpu: Whether to time this machine's own matrix product, which takes half a second.
    """
    check_objective(recipe)
    case = _planned(recipe)
    memory = {method_name(*method): case.memory_by_method(*method) for method in case.methods}
    cached = case.cached
    work = case.work(cached)
    speeds = [case.speed(one) for one in CARDS]
    cases = _Cases(recipe, case)
    if measure_cpu:
        speeds.insert(0, speed_of_this_cpu(case.config, bf16=case.computes_bf16))
    return Plan(
        rows=len(case.rows),
        steps=planned_steps(len(case.rows), recipe.train),
        steps_per_epoch=planned_steps(len(case.rows), recipe.train.model_copy(update={"steps": None, "epochs": 1.0})),
        padding=case.padding(recipe),
        batch=case.batch,
        num_crops=case.num_crops,
        images=image_token_table(case.rows, [1, 4, 16, case.num_crops], case.config.crop_size),
        memory=memory,
        chosen=method_name(recipe.train.method, recipe.train.train_tower),
        work=work,
        cached=cached,
        devices=[case.on(speed, work, price) for speed in speeds],
        recommended=cases.recommended(card, price) if card else None,
        by_card=[(one, cases.recommended(one, price)) for one in CARDS],
        sweep=cases.sweep(card, price) if card and sweep else [],
        sides=case.sides,
        reference_bytes=case.reference_bytes if isinstance(case, PlannedPairs) else 0,
    )


class _Cases:
    """A recipe with one and another num_crops, each counted once."""

    def __init__(self, recipe: Recipe, own: PlannedRun) -> None:
        self._recipe, self._own = recipe, own
        self._cases = {own.num_crops: own}

    def recommended(self, card: Card, price: float | None) -> Setting | None:
        """The recipe's num_crops at its fastest setting; the next smaller one where none fits the card."""
        smaller = [crops for crops in reversed(SWEPT_CROPS) if crops < self._own.num_crops]
        settings = (self._with(crops).fastest(card, price) for crops in (self._own.num_crops, *smaller))
        return next((setting for setting in settings if setting), None)

    def sweep(self, card: Card, price: float | None) -> list[Setting]:
        """Each num_crops, the recipe's own among them, at its fastest setting."""
        every = sorted({*SWEPT_CROPS, self._own.num_crops})
        return [setting for crops in every if (setting := self._with(crops).fastest(card, price))]

    def _with(self, crops: int) -> PlannedRun:
        if crops not in self._cases:
            model = self._recipe.model.model_copy(update={"num_crops": crops})
            self._cases[crops] = _planned(self._recipe.model_copy(update={"model": model}))
        return self._cases[crops]


def _planned(recipe: Recipe) -> PlannedRun:
    folder = DatasetFolder.open(recipe.data.path)
    task = recipe.task or folder.task
    rows = split_rows(folder, recipe, "train").rows[: recipe.data.train_rows]
    if recipe.train.abstain.share:  # counted as images of the same sizes
        task = task.abstaining(recipe.train.abstain.word)
        rows += foreign_examples(rows, foreign_count(len(rows), recipe.train.abstain.share), recipe.seed, task)
    config, processor = _shapes(recipe, [task.prompt, *(task.render(row) for row in rows)])
    if recipe.train.objective == "dpo":
        source = TrainingImages(folder, recipe.preference.pairs, None)  # foreign images are drawn when it trains
        pairs, _ = pair_set(recipe, source, rows, processor, task, lambda _line: None)
        return PlannedPairs(recipe, pairs, config, processor, tiny=recipe.model.name == TINY)
    return PlannedRun(recipe, rows, task, config, processor, tiny=recipe.model.name == TINY)


def _shapes(recipe: Recipe, texts: list[str]) -> tuple[Any, Any]:
    """Configuration and processor, without weights."""
    name = recipe.model.name
    if name == TINY:
        processor: Any = tiny_processor(texts, num_crops=recipe.model.num_crops or 1)
        config: Any = tiny_config(processor.tokenizer)
    else:
        subject = subject_of(name, recipe.model.revision)
        with loading(subject.weights):
            config = read_config(subject.weights, **subject.hub)
            processor = read_processor(subject.processor, **subject.processor_hub)
    config._attn_implementation = recipe.model.attention
    return config, processor
