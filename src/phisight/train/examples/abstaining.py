"""What ``train.abstain`` adds to a training set: foreign images, and the examples and pairs that show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phisight.core.errors import SettingsError, some
from phisight.core.run_folder import FOREIGN_IMAGES
from phisight.core.seeding import named_seed
from phisight.core.settings import AbstainSettings, Recipe
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.foreign_images import (
    FOREIGN,
    ForeignImages,
    foreign_count,
    foreign_examples,
    kinds_of,
    read_foreign,
)
from phisight.data.dataset.image_groups import recorded_sizes
from phisight.data.dataset.preference_pairs import CHOSEN, PROMPT, REJECTED, recorded_image
from phisight.data.images.recorded import RecordedImage, require_unchanged
from phisight.sample.foreign.foreign_folder import TRAINED, make_foreign
from phisight.train.distributed import process_group

MOST_DRAWN = 2000
"""Foreign images that are drawn for a run; more examples than that show them again."""

Row = dict[str, Any]
DRAWN = "drawn"


def check_abstain(recipe: Recipe) -> None:
    """SettingsError where settings of ``train.abstain`` can have no effect."""
    abstain = recipe.train.abstain
    usual = AbstainSettings()
    changed = [name for name in ("images", "kinds", "word") if getattr(abstain, name) != getattr(usual, name)]
    if changed and not abstain.share:
        raise SettingsError(
            f"train.abstain.{changed[0]} is set and train.abstain.share is 0, so that no foreign image is shown; set "
            "train.abstain.share, such as 0.1"
        )
    if abstain.kinds and abstain.images != DRAWN:
        raise SettingsError(
            f"train.abstain.kinds names what is drawn, and train.abstain.images is {abstain.images}; leave one of them "
            "out"
        )


@dataclass(frozen=True)
class TrainingImages:
    """Where the image of a training row is: in the data set, beside the pairs, or among the foreign images."""

    folder: DatasetFolder
    pairs: Path | None
    foreign: ForeignImages | None

    def recorded(self, row: Mapping[str, Any]) -> RecordedImage:
        """The image with the hash that was recorded for it."""
        if FOREIGN in row and self.foreign is not None:
            return self.foreign.recorded(row)
        return self.folder.recorded(row) if self.pairs is None else recorded_image(row, self.folder, self.pairs)

    def load(self, row: Mapping[str, Any]) -> Image.Image:
        """The image in RGB."""
        return self.recorded(row).load()

    def require_unchanged(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """ChangedImageError for rows whose image is not the one that was recorded."""
        require_unchanged(map(self.recorded, rows))


def images_of_training(
    recipe: Recipe,
    folder: DatasetFolder,
    task: Task,
    rows: Sequence[Row],
    notify: Callable[[str], None],
    *,
    continues: bool = False,
) -> TrainingImages:
    """All images of a run; foreign ones are drawn first where the recipe says so, unless the run ``continues``.

    SettingsError where a row of the data set holds the word for "not shown" as a value.
    """
    foreign = _foreign_images(recipe, folder, task, rows, notify, continues=continues)
    return TrainingImages(folder, recipe.preference.pairs, foreign)


def _foreign_images(
    recipe: Recipe,
    folder: DatasetFolder,
    task: Task,
    rows: Sequence[Row],
    notify: Callable[[str], None],
    *,
    continues: bool,
) -> ForeignImages | None:
    abstain = recipe.train.abstain
    if not abstain.share:
        return None
    _require_distinct(task, rows)
    path = recipe.out / FOREIGN_IMAGES if abstain.images == DRAWN else Path(abstain.images)
    if abstain.images == DRAWN and not (continues and path.is_dir()):
        count = min(MOST_DRAWN, foreign_count(len(rows), abstain.share))
        kinds, sizes = abstain.kinds or list(TRAINED), recorded_sizes(rows)
        notify(f"Drawing {count} foreign images ({some(kinds, 20)}) into {path}.")
        process_group.on_rank_zero(
            lambda: make_foreign(count, path, seed=recipe.seed, kinds=kinds, sizes=sizes, overwrite=True)
        )
    images = read_foreign(path, folder)
    if images.left_out:
        notify(f"{len(images.left_out)} foreign images are left out: {some(images.left_out, 3)}.")
    return images


def _require_distinct(task: Task, rows: Sequence[Row]) -> None:
    """SettingsError where an answer could not be told from "not shown"."""
    for name, field in task.fields.items():
        held = sum(field.typed(row[name]) is None for row in rows) if field.abstain else 0
        if held:
            raise SettingsError(
                f"{held} of {len(rows)} training rows hold {field.absent!r} in {name!r}, which train.abstain would "
                "teach for images that do not show it; set train.abstain.word to another word"
            )


def examples_of(
    foreign: ForeignImages | None, recipe: Recipe, task: Task, rows: int, notify: Callable[[str], None]
) -> list[Row]:
    """Rows of foreign images to add to ``rows`` training rows; none under dpo, which adds pairs."""
    if foreign is None or recipe.train.objective == "dpo":
        return []
    added = foreign_examples(foreign.rows, foreign_count(rows, recipe.train.abstain.share), recipe.seed, task)
    again = f", some of them more than once: there are {len(foreign.rows)}" if len(added) > len(foreign.rows) else ""
    notify(
        f"{len(added)} of {rows + len(added)} examples show foreign images ({some(kinds_of(added), 20)}){again}; "
        f"their answer is {task.render(task.not_shown)!r}."
    )
    return added


def foreign_pairs(
    foreign: ForeignImages | None, recipe: Recipe, task: Task, pairs: int, rows: Sequence[Row]
) -> list[Row]:
    """Pairs about foreign images to add to ``pairs`` others: chosen is "not shown", rejected an invented answer.

    The invented answer is that of one of the training ``rows``, drawn from the seed.
    """
    if foreign is None:
        return []
    added = foreign_examples(foreign.rows, foreign_count(pairs, recipe.train.abstain.share), recipe.seed, task)
    rng = np.random.default_rng(named_seed(recipe.seed, "invented"))
    invented = rng.integers(len(rows), size=len(added)).tolist()
    chosen = task.render(task.not_shown)
    return [
        {**row, PROMPT: task.prompt, CHOSEN: chosen, REJECTED: task.render(rows[index])}
        for row, index in zip(added, invented, strict=True)
    ]
