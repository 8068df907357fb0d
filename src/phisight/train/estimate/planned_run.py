"""A recipe before it runs: its rows, their lengths, the model's shapes, and what it takes on a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.train.acceleration.bfloat16 import computes_bfloat16
from phisight.train.estimate.cards import Card
from phisight.train.estimate.flops import Cached, ExampleSize
from phisight.train.estimate.measured_shares import most_alike
from phisight.train.estimate.memory_plan import Memory, expected_padding, largest_batch, memory_of
from phisight.train.estimate.time_plan import (
    Duration,
    Speed,
    Work,
    duration_of,
    example_sizes,
    speed_of,
    with_train,
    work_of,
)
from phisight.train.examples.tokenize import example_lengths, image_token_counts, prompt_text
from phisight.train.loader import planned_steps
from phisight.train.trainable.methods import apply_method

METHODS = (("full", True), ("full", False), ("lora", False), ("qlora", False), ("projector", False))
"""Method, and whether the tower trains; the recipe's own is added."""
USABLE = 0.9
"""Share of a card's memory that a run may fill: kernels' workspaces and fragmentation take the rest."""


@dataclass(frozen=True)
class DevicePlan:
    """A recipe on one device."""

    speed: Speed
    fits: bool
    largest_batch: int | None
    """Most examples of a micro-batch that fit; None where it is the machine's own memory."""
    duration: Duration
    cost: float | None
    """Of the run, at the price an hour that was given."""


@dataclass(frozen=True)
class Setting:
    """One choice of the settings that decide time and memory, and change no result but by rounding."""

    num_crops: int
    image_tokens: int
    """Median."""
    batch_size: int
    accumulate: int
    checkpointing: bool
    cached: Cached
    peak: int
    """Bytes."""
    hours: float
    cost: float | None


class PlannedRun:
    """A recipe with its rows, their lengths and the model's shapes."""

    def __init__(
        self, recipe: Recipe, rows: Sequence[Mapping[str, Any]], task: Task, config: Any, processor: Any, *, tiny: bool
    ) -> None:
        self.recipe = recipe
        self.rows = rows
        self.config = config
        self._take_settings(processor, tiny=tiny)
        self.lengths = example_lengths(self.rows, processor, task, self.num_crops)
        self.image_tokens = [image_token_counts(row, self.num_crops, self.config.crop_size) for row in self.rows]
        counts = set(map(len, self.image_tokens))
        prompts = {n: len(processor.encode(prompt_text(processor, task.prompt, n), [0] * n)) for n in counts}
        self.trained = [
            length - sum(each) - prompts[len(each)]
            for length, each in zip(self.lengths, self.image_tokens, strict=True)
        ]
        self.batch = largest_batch(self.rows, self.lengths, self.trained, recipe, processor)
        self.sides = 1
        """Sequences of an example."""

    def _take_settings(self, processor: Any, *, tiny: bool) -> None:
        self._dtype = dtype_of(self.recipe, self.config, tiny=tiny)
        self._tower_trains = self.recipe.train.train_tower or (tiny and self.recipe.train.method == "full")
        self.num_crops = self.recipe.model.num_crops or processor.image_processor.num_crops
        self._memories: dict[tuple[int, Any], Memory] = {}
        """By examples of a micro-batch and checkpointing: cards differ in neither."""

    @property
    def methods(self) -> list[tuple[str, bool]]:
        """Methods whose memory is compared, the recipe's own among them."""
        return list(dict.fromkeys([*METHODS, (self.recipe.train.method, self.recipe.train.train_tower)]))

    def memory_by_method(self, method: str, tower: bool) -> Memory:
        """Bytes of another method than the recipe's."""
        from_layer = {} if method != "projector" and not tower else {"from_layer": 0}
        recipe = with_train(self.recipe, method=method, train_tower=tower, **from_layer)
        return memory_of(_meta_model(recipe, self.config, self._dtype), self.config, self.batch, recipe)

    @cached_property
    def _model(self) -> Any:
        return _meta_model(self.recipe, self.config, self._dtype)

    @property
    def computes_bf16(self) -> bool:
        """Whether products are in bfloat16: under autocast, or by the weights' own type."""
        return computes_bfloat16(self.recipe.train) or self._dtype == torch.bfloat16

    @cached_property
    def sizes(self) -> list[ExampleSize]:
        """What each row's arithmetic depends on."""
        crop_size = self.config.crop_size
        return example_sizes(self.rows, self.lengths, self.image_tokens, self.trained, self.num_crops, crop_size)

    def work(self, cached: Cached, recipe: Recipe | None = None) -> Work:
        """FLOPs of an epoch."""
        recipe = recipe or self.recipe
        return work_of(self.config, self.sizes, recipe, cached, self.padding(recipe))

    def padding(self, recipe: Recipe) -> float:
        """Share of padding in the first epoch."""
        return expected_padding(self.lengths, recipe)

    @property
    def cached_crops(self) -> int:
        """Crops whose features a cache of the tower holds."""
        return sum(one.crops for one in self.sizes)

    @cached_property
    def cached(self) -> Cached:
        """What the recipe's steps read from a cache."""
        return next(iter(self._caches()))

    def _caches(self) -> Iterator[Cached]:
        """Caches that the recipe allows and its bounds hold, the one that saves most first, and none at all."""
        train, data = self.recipe.train, self.recipe.data
        if data.augment:
            yield "nothing"
            return
        value = torch.empty((), dtype=self._dtype).element_size()
        if train.from_layer and sum(self.lengths) * self.config.hidden_size * value <= data.trunk_cache_gb * 1e9:
            yield "hidden states"
        merged = (self.config.crop_size // 14) ** 2 * self.config.vision_config.hidden_size * value
        if not self._tower_trains and self.cached_crops * merged <= data.feature_cache_gb * 1e9:
            yield "features"
        yield "nothing"

    def speed(self, card: Card, cached: Cached | None = None) -> Speed:
        """A card at what it reaches with the recipe and a cache (the recipe's own where none is named)."""
        tokens = sum(map(sum, self.image_tokens)) / max(1, len(self.image_tokens))
        alike = most_alike(card.name, self.recipe.train, cached or self.cached, max(1.0, tokens))
        return speed_of(card, bf16=self.computes_bf16 or self.recipe.train.bf16 == "auto", measured=alike)

    def on(self, speed: Speed, work: Work, price: float | None) -> DevicePlan:
        """The recipe as it is on a device."""
        memory = memory_of(self._model, self.config, self.batch, self.recipe)
        duration = self._duration(speed, work, self.recipe, memory)
        return DevicePlan(
            speed=speed,
            fits=memory.peak <= USABLE * speed.memory,
            largest_batch=self._largest_batch(speed),
            duration=duration,
            cost=None if price is None else price * duration.hours,
        )

    def _duration(self, speed: Speed, work: Work, recipe: Recipe, memory: Memory) -> Duration:
        tokens = sum(one.tokens for one in self.sizes) / len(self.rows)
        steps = planned_steps(len(self.rows), recipe.train)
        return duration_of(speed, work, recipe, memory, steps=steps, tokens_per_example=tokens)

    def _memory(self, recipe: Recipe) -> Memory:
        key = recipe.train.batch_size, recipe.train.gradient_checkpointing
        if key not in self._memories:
            batch = replace(self.batch, examples=self.sides * recipe.train.batch_size)
            self._memories[key] = memory_of(self._model, self.config, batch, recipe)
        return self._memories[key]

    def _largest_batch(self, speed: Speed) -> int | None:
        """Most examples of a micro-batch that fit: memory grows evenly with them."""
        if speed.memory == float("inf"):
            return None
        one, two = (self._memory(with_train(self.recipe, batch_size=size)) for size in (1, 2))
        each = two.activations + two.head - one.activations - one.head
        count = 0
        while self._memory(with_train(self.recipe, batch_size=count + 1)).peak <= USABLE * speed.memory:
            left = USABLE * speed.memory - self._memory(with_train(self.recipe, batch_size=count + 1)).peak
            count += 1 + int(left // each)
        return count

    def fastest(self, card: Card, price: float | None) -> Setting | None:
        """The fastest setting that fits a card; None where none does. The examples of a step stay as many."""
        usable = USABLE * card.gigabytes * 1e9
        found = [setting for setting in self._settings(card, price) if setting.peak <= usable]
        return min(found, key=lambda one: (one.hours, one.peak), default=None)

    def _settings(self, card: Card, price: float | None) -> Iterator[Setting]:
        tokens = sorted(sum(each) for each in self.image_tokens)
        for checkpointing in (False, True):
            for cached in self._caches():
                for size in _divisors(self.recipe.train.batch_size * self.recipe.train.accumulate):
                    accumulate = self.recipe.train.batch_size * self.recipe.train.accumulate // size
                    recipe = with_train(
                        self.recipe, batch_size=size, accumulate=accumulate, gradient_checkpointing=checkpointing
                    )
                    memory = self._memory(recipe)
                    duration = self._duration(self.speed(card, cached), self.work(cached, recipe), recipe, memory)
                    cost = None if price is None else price * duration.hours
                    yield Setting(
                        self.num_crops,
                        tokens[len(tokens) // 2],
                        size,
                        accumulate,
                        checkpointing,
                        cached,
                        memory.peak,
                        duration.hours,
                        cost,
                    )


def _divisors(count: int) -> Sequence[int]:
    return [size for size in range(1, count + 1) if count % size == 0]


def method_name(method: str, tower: bool) -> str:
    """A method as the table calls it."""
    return f"{method} + tower" if tower else method


def dtype_of(recipe: Recipe, config: Any, *, tiny: bool) -> torch.dtype:
    """Type of the weights; a tiny model's are float32 unless the recipe says otherwise."""
    if recipe.model.dtype == "auto":
        return torch.float32 if tiny else config.dtype or torch.float32
    return torch.bfloat16 if recipe.model.dtype == "bfloat16" else torch.float32


def _meta_model(recipe: Recipe, config: Any, dtype: torch.dtype) -> Any:
    """The model with what trains, without memory for its weights."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
        return apply_method(model, recipe.train, recipe.lora)
