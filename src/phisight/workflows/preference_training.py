"""What training on pairs adds to training on rows: its settings checked, its examples, the model before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from phisight.core.dataset_folder import SHA256
from phisight.core.errors import SettingsError, some
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.data.dataset.image_groups import images_of
from phisight.data.dataset.preference_pairs import read_pairs
from phisight.model.number_head import head_of
from phisight.train.acceleration.bfloat16 import computes_bfloat16
from phisight.train.cache import reference_scores
from phisight.train.distributed.process_group import on_each_node
from phisight.train.examples.abstaining import TrainingImages, foreign_pairs
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.pair_set import PairCollator, PairSet, other_images
from phisight.train.precompute import CacheReport, Progress


def check_objective(recipe: Recipe) -> None:
    """SettingsError where settings contradict ``train.objective`` or can have no effect under it."""
    train, pairs = recipe.train, recipe.preference.pairs
    if train.objective == "sft":
        if pairs is not None:
            raise SettingsError(
                f"preference.pairs is {pairs}, which train.objective sft does not read; set train.objective to dpo"
            )
        return
    if pairs is None:
        raise SettingsError(
            "train.objective dpo needs pairs, and preference.pairs is not set; name a JSONL file with the columns "
            "images, prompt, chosen, rejected"
        )
    if train.numbers != "text":
        raise SettingsError(
            f"train.objective dpo compares answers as text, and train.numbers is {train.numbers}, which trains numbers "
            "beside it; set train.numbers to text"
        )
    if recipe.data.augment:
        raise SettingsError(
            f"train.objective dpo compares with log-probabilities of the images as they are, and data.augment is "
            f"{recipe.data.augment}; leave data.augment out"
        )
    if train.patience is not None and train.best == "loss":
        raise SettingsError(
            "train.patience with train.best = loss would end a preference training by the validation loss, which says "
            "little of the answers; set train.best to a figure of the answers, such as parse_rate"
        )


def pair_set(
    recipe: Recipe,
    source: TrainingImages,
    rows: Sequence[dict[str, Any]],
    processor: Any,
    task: Task,
    notify: Callable[[str], None],
) -> tuple[PairSet, int]:
    """The pairs of a recipe as examples, and how many are left out as too long; ``rows`` are those of training.

    SettingsError where sides are too long and ``data.too_long`` is ``error``.
    """
    path, folder = source.pairs, source.folder
    assert path is not None
    found, left_out = read_pairs(path, folder)
    if left_out:
        notify(f"{len(left_out)} of {len(found) + len(left_out)} pairs are left out: {some(left_out, 3)}.")
    if added := foreign_pairs(source.foreign, recipe, task, len(found), rows):
        notify(f"{len(added)} of {len(found) + len(added)} pairs show foreign images.")
        found += added
    unnamed = sum(SHA256 not in image for row in found for image in images_of(row))
    if unnamed:
        raise SettingsError(f"{folder.path} has no column {SHA256}, by which images are named; build the folder again")

    def made(chosen: list[dict[str, Any]]) -> PairSet:
        images = ExampleSet(chosen, source.load, processor, task, num_crops=recipe.model.num_crops)
        others = other_images(chosen, recipe.seed) if recipe.preference.image_weight else None
        return PairSet(chosen, images, others)

    limit, pairs = recipe.data.max_length or processor.tokenizer.model_max_length, made(found)
    fitting = [row for row, length in zip(found, pairs.lengths, strict=True) if length <= limit]
    too_long = len(found) - len(fitting)
    if not too_long:
        return pairs, 0
    if recipe.data.too_long == "error" or not fitting:
        raise SettingsError(
            f"{too_long} of {len(found)} pairs are longer than {limit} tokens (the longest {max(pairs.lengths)}); "
            "raise data.max_length, lower model.num_crops, or set data.too_long to leave_out"
        )
    return made(fitting), too_long


def fill_reference(recipe: Recipe, model: Any, pairs: PairSet, processor: Any, progress: Progress) -> CacheReport:
    """Compute the log-probabilities of the pairs by the model as it is now; from then on pairs carry them.

    Called before the first step, of a resumed run too: its model has the weights before training until then.
    """
    bf16, images = computes_bfloat16(recipe.train), pairs.images
    key = reference_scores.reference_key(model, processor.image_processor, images.num_crops, bf16=bf16)
    folder = (recipe.data.feature_cache or recipe.out.parent / "features") / "reference"
    scores = reference_scores.ReferenceScores(folder, key)
    collate = PairCollator(Collator(processor.tokenizer.pad_token_id))
    computed = on_each_node(lambda: reference_scores.fill(scores, model, pairs, collate, bf16=bf16, progress=progress))
    pairs.reference = scores
    size = sum(scores.path(name).stat().st_size for name in set(pairs.names))
    return CacheReport("reference log-probabilities", used=True, folder=scores.folder, bytes=size, computed=computed)


def freeze_number_head(model: Any) -> None:
    """A number head that the model brings along stays as it is: no term of a preference loss reaches it."""
    head = head_of(model)
    if head is not None:
        head.requires_grad_(False)
