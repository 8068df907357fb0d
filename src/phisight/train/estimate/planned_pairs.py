"""A recipe of preference training before it runs: the sides of its pairs, each image once, the reference scores.

A micro-batch holds the sides of its pairs as sequences. Its logits are those of all positions that predict a token of
any answer (``losses/preference.py``). Before the first step every pair goes forward once, for its reference scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from phisight.core.dataset_folder import HEIGHT, SHA256, WIDTH
from phisight.core.geometry import hd_grid
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe
from phisight.data.dataset.image_groups import images_of
from phisight.train.cache.reference_scores import SIDES
from phisight.train.cache.store import HEADER_BYTES
from phisight.train.estimate.flops import PARTS, Cached, ExampleSize, example_flops
from phisight.train.estimate.memory_plan import Batch
from phisight.train.estimate.planned_run import PlannedRun
from phisight.train.estimate.time_plan import Work, work_of
from phisight.train.examples.pair_set import PairSet
from phisight.train.examples.sampler import LengthSampler
from phisight.train.examples.tokenize import image_token_counts


class PlannedPairs(PlannedRun):
    """A recipe with its pairs and the model's shapes; an example is a pair."""

    def __init__(self, recipe: Recipe, pairs: PairSet, config: Any, processor: Any, *, tiny: bool) -> None:
        self.recipe, self.rows, self.config, self.pairs = recipe, pairs.rows, config, pairs
        self._take_settings(processor, tiny=tiny)
        self.lengths = pairs.lengths
        self.image_tokens = [image_token_counts(row, self.num_crops, config.crop_size) for row in self.rows]
        self.trained = [max(one) for one in pairs.labeled]
        self.sides = len(pairs.side_lengths[0])
        self.batch = self._largest_batch_of_pairs()

    def _largest_batch_of_pairs(self) -> Batch:
        """The largest micro-batch; crops are those of all images of a pair, divided by its sides."""
        crops = max(sum(self._crops(row) for row in set(self.pairs.shown(index))) for index in range(len(self.pairs)))
        size = min(self.recipe.train.batch_size, len(self.pairs))
        return Batch(size * self.sides, max(self.lengths), self._most_positions(), -(-crops // self.sides))

    def _crops(self, row: int) -> int:
        """Crops of the images of a row, thumbnails included."""
        return sum(count + 1 for count in self._tiles(row))

    def _tiles(self, row: int) -> list[int]:
        """Tiles of each image of a row, without its thumbnail."""
        sizes = [(one[WIDTH], one[HEIGHT]) for one in images_of(self.rows[row])]
        return [hd_grid(*size, self.num_crops, self.config.crop_size).tiles for size in sizes]

    def _most_positions(self) -> int:
        """Most positions of a micro-batch of the first epoch that have logits, as the collator will find them."""
        most = 0
        for batch in self._micro_batches(self.recipe):
            positions: set[int] = set()
            for index in batch:
                for length, labeled in zip(self.pairs.side_lengths[index], self.pairs.labeled[index], strict=True):
                    positions.update(range(length - labeled - 1, length - 1))
            most = max(most, len(positions))
        return most

    def _micro_batches(self, recipe: Recipe) -> Iterator[list[int]]:
        """Pairs of each micro-batch of the first epoch, one process."""
        step = recipe.train.batch_size * recipe.train.accumulate
        order = list(map(int, LengthSampler(self.lengths, step, named_seed(recipe.seed, "order") % 2**32)))
        for first in range(0, len(order), step):
            of_step = order[first : first + step]
            for start in range(0, len(of_step), recipe.train.batch_size):
                yield of_step[start : start + recipe.train.batch_size]

    def padding(self, recipe: Recipe) -> float:
        """Share of padding in the first epoch: every side is as long as the longest of its micro-batch."""
        taken = used = 0
        for batch in self._micro_batches(recipe):
            sides = [length for index in batch for length in self.pairs.side_lengths[index]]
            taken, used = taken + max(sides) * len(sides), used + sum(sides)
        return 1 - used / taken

    @cached_property
    def sizes(self) -> list[ExampleSize]:
        """What the arithmetic of each side depends on; the rejected side shows the image of the chosen one."""
        return [size for index in range(len(self.pairs)) for size in self._sides(index)]

    def _sides(self, index: int) -> Iterator[ExampleSize]:
        lengths, labeled = self.pairs.side_lengths[index], self.pairs.labeled[index]
        for side, (row, length, trained) in enumerate(zip(self.pairs.shown(index), lengths, labeled, strict=True)):
            shares = side == 1
            crops = 0 if shares else self._computed_crops(row)
            yield ExampleSize(length, 0 if shares else sum(self.image_tokens[row]), crops, trained)

    def _computed_crops(self, row: int) -> int:
        """Crops that the tower computes: an image of one tile is computed once and used twice."""
        return sum(1 if count == 1 else count + 1 for count in self._tiles(row))

    @property
    def cached_crops(self) -> int:
        """Crops of the different images."""
        return sum(self._crops(row) for row in self._different_rows)

    @cached_property
    def _different_rows(self) -> Sequence[int]:
        named = {tuple(str(one.get(SHA256)) for one in images_of(row)): index for index, row in enumerate(self.rows)}
        return list(named.values())

    def work(self, cached: Cached, recipe: Recipe | None = None) -> Work:
        """FLOPs of an epoch; ``filling`` is the cache, for each image once, and the reference scores."""
        recipe = recipe or self.recipe
        found = work_of(self.config, self.sizes, recipe, cached, self.padding(recipe))
        images = [next(self._sides(row)) for row in self._different_rows]
        filling = work_of(self.config, images, recipe, cached, 0.0).filling
        flops = (example_flops(self.config, one, recipe.train, recipe.lora, cached).parts for one in self.sizes)
        scores = sum(parts[name].forward for parts in flops for name in PARTS)
        return replace(found, filling=filling + scores, examples=len(self.pairs))

    def _caches(self) -> Iterator[Cached]:
        """Hidden states are not cached: an image has several answers."""
        yield from (one for one in super()._caches() if one != "hidden states")

    @property
    def reference_bytes(self) -> int:
        """Bytes on disk of the reference scores, at most."""
        return len(set(self.pairs.names)) * (HEADER_BYTES + 4 * SIDES)
