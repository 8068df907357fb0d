"""A model, its processor and settings to what answers and describes images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phisight.core.errors import DatasetError, EvaluationError, ImageError
from phisight.core.kinds import Known
from phisight.core.settings import EvaluateSettings, Numbers, Recipe
from phisight.core.task import Task
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.evaluate import EvalRow
from phisight.export.task_file import TaskFile
from phisight.extraction.chat_client import OWNER, ChatClient
from phisight.extraction.familiarity import Familiarity
from phisight.generate import AnswerGrammar, ImageSource, Predictor, load_rgb, number_writer
from phisight.model.number_head import head_of
from phisight.model.vision import pooled_patches

MIN_TEXT_TOKENS = 4
"""Fewest tokens that each free text of a constrained answer must have room for."""
_FEATURE_BATCH = 32
_KEPT_BYTES = 200_000_000
"""Features that an evaluation keeps for its next question about the same images, at most."""


def with_numbers_of(model: Any, recipe: Recipe) -> Recipe:
    """The recipe with ``train.numbers`` as the model can answer them: by its number head, else as text."""
    train = recipe.train.model_copy(update={"numbers": "head" if head_of(model) else "text"})
    return recipe.model_copy(update={"train": train})


def predictor_of(
    model: Any,
    processor: Any,
    settings: EvaluateSettings,
    numbers: Numbers,
    task: Task,
    data: Sequence[Path],
    *,
    run: Path | None = None,
    continuous: bool = False,
) -> Predictor:
    """Model, processor and settings as a ``Predictor``; ``numbers`` is how the model was trained to give its numbers.

    Constrained answers take their categories, the sign and the digits of their numbers from what ``run`` has recorded,
    else from the first of ``data`` that has a training split.
    """
    limits = None
    if settings.constrained:
        limits = limits_of_data(task, data) if run is None else limits_of_run(run, task, data)
    grammar = grammar_of(model, processor, task, limits, settings.max_new_tokens) if limits else None
    return Predictor(
        model,
        processor,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        grammar=grammar,
        numbers=number_writer(numbers, task, processor.tokenizer),
        continuous=continuous,
    )


def limits_of_data(task: Task, data: Sequence[Path]) -> AnswerLimits:
    """What constrained answers may hold; EvaluationError where no data set says so."""
    try:
        return AnswerLimits.of_training(task, data)
    except DatasetError as error:
        raise EvaluationError(f"evaluate.constrained needs the categories of a training split: {error}") from error


def limits_of_run(run: Path, task: Task, data: Sequence[Path]) -> AnswerLimits:
    """What constrained answers of a run may hold: what it recorded, else what its data set says, as it did then."""
    return AnswerLimits.recorded(run) or limits_of_data(task, data).without_decimals()


def grammar_of(model: Any, processor: Any, task: Task, limits: AnswerLimits, most: int) -> AnswerGrammar:
    """The grammar of answers of at most ``most`` tokens."""
    room = _text_room(task, processor.tokenizer, limits, most)
    ends = model.generation_config.eos_token_id
    return AnswerGrammar(
        task,
        processor.tokenizer,
        limits.categories,
        ends,
        max_text_tokens=room,
        ranges=limits.ranges,
        decimals=limits.decimals,
    )


def fitting_server(file: TaskFile, client: ChatClient, notify: Callable[[str], None]) -> TaskFile:
    """The task file without intervals and calibrations that were fitted on answers which a server does not give.

    phisight's own gives them; any other writes freely, and reads no number head.
    """
    fitted = {*file.intervals, *file.calibration}
    if not file.constrained:
        fitted &= set(file.task.of_kind("number")) if file.numbers != "text" else set()
    if not fitted:
        return file
    with client:
        owner = client.owner()
    if owner == OWNER:
        return file
    how = "held to the template" if file.constrained else f"with the number strategy {file.numbers!r}"
    notify(
        f"{client.url} is no server of phisight's ({f'its model belongs to {owner}' if owner else 'it does not say'}): "
        f"intervals and calibrated confidences of {', '.join(sorted(fitted))} are left out, for they were fitted on "
        f"answers {how}; serve the model with `phisight serve` to keep them"
    )
    intervals = {name: one for name, one in file.intervals.items() if name not in fitted}
    calibration = {name: one for name, one in file.calibration.items() if name not in fitted}
    return file.model_copy(update={"intervals": intervals, "calibration": calibration})


class TowerFeatures:
    """What a model's vision tower makes of the thumbnails of images; while they are few, each goes through it once.

    The thumbnail of ``means`` is the whole image in one crop, that of ``pooled`` is prediction's; both are the same for
    a model that looks at one crop.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._embedding, self._image_processor = model.model.vision_embed_tokens, processor.image_processor
        self._pooled: dict[ImageSource, NDArray[np.float32]] = {}

    def means(self, images: Sequence[ImageSource]) -> NDArray[np.float32]:
        """float32[N, 4V]: merged patches, averaged."""
        if self._image_processor.num_crops == 1:
            return self.pooled(images)[:, : self._embedding.glb_GN.shape[-1]]
        return np.concatenate([one.mean(dim=(1, 2)).cpu().numpy() for one in self._patches(images, num_crops=1)])

    def pooled(self, images: Sequence[ImageSource]) -> NDArray[np.float32]:
        """float32[N, 24V]: see ``pooled_patches``."""
        missing = [image for image in dict.fromkeys(images) if image not in self._pooled]
        rows = [row for some in self._patches(missing) for row in pooled_patches(some).cpu().numpy()]
        found = {**self._pooled, **dict(zip(missing, rows, strict=True))}
        if sum(one.nbytes for one in found.values()) <= _KEPT_BYTES:
            self._pooled = found
        return np.stack([found[image] for image in images])

    @torch.no_grad()
    def _patches(self, images: Sequence[ImageSource], num_crops: int | None = None) -> Iterator[Tensor]:
        """float32[some, n, n, 4V] of some images after the others."""
        for start in range(0, len(images), _FEATURE_BATCH):
            batch = [load_rgb(image) for image in images[start : start + _FEATURE_BATCH]]
            pixels = self._image_processor(batch, num_crops=num_crops, return_tensors="pt")["pixel_values"]
            yield self._embedding.tower_features(pixels[:, 0]).float()


def fitted_familiarity(
    features: TowerFeatures, train: Sequence[EvalRow], validation: Sequence[EvalRow], false_alarms: float
) -> Familiarity:
    """What scores how unlike the training images an image is, with its threshold from the validation images."""
    seen, held_out = (
        features.pooled([image for row in rows for image in row.recorded]) for rows in (train, validation)
    )
    return Familiarity.fit(seen, held_out, false_alarms)


def unfamiliar_scores(known: Familiarity, features: TowerFeatures, rows: Sequence[EvalRow]) -> list[float]:
    """How unfamiliar each row is: the least familiar of its images; nan where one cannot be used."""
    if not rows:
        return []
    try:
        pooled = features.pooled([image for row in rows for image in row.recorded])
    except ImageError:
        if len(rows) == 1:
            return [math.nan]
        half = len(rows) // 2
        return [one for some in (rows[:half], rows[half:]) for one in unfamiliar_scores(known, features, some)]
    starts = np.cumsum([0, *(len(row.images) for row in rows)])[:-1]
    scores: list[float] = (np.maximum.reduceat(known.distances(pooled), starts) / known.threshold).tolist()
    return scores


def _text_room(task: Task, tokenizer: Any, limits: AnswerLimits, most: int) -> int:
    """Tokens for each free text of a constrained answer, so that the longest of everything else fits behind it.

    A quarter is added for a model that spells a word in more tokens than the tokenizer would.
    """
    known, texts, longest_answer = limits.known(), [], task.answer
    for name in task.names:
        field, seen = task.fields[name], known.get(name, Known())
        longest = field.rules.longest(seen, field)
        texts += [name] if field.part(seen).open_ended else []
        longest_answer = longest_answer.replace(
            "{" + name + "}", max(longest, field.absent * field.may_be_absent, key=len)
        )
    needed = len(tokenizer(longest_answer, add_special_tokens=False).input_ids) * 5 // 4 + 4
    room = (most - needed) // max(1, len(texts))
    if room < MIN_TEXT_TOKENS:
        raise EvaluationError(
            f"evaluate.max_new_tokens = {most} is too few for constrained answers: names, categories and numbers alone "
            f"may take {needed}; set it to {needed + MIN_TEXT_TOKENS * len(texts)} or more"
        )
    return room
