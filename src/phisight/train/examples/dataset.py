"""``ExampleSet``: the torch Dataset of a split, from a row to ids, labels and pixels or cached tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from phisight.core.dataset_folder import SHA256
from phisight.core.errors import SettingsError
from phisight.core.geometry import grid_tokens
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.data.dataset.image_groups import images_of
from phisight.train.cache.hidden_states import TrunkCache, example_name
from phisight.train.cache.vision_features import FeatureCache
from phisight.train.examples.augment import Augment
from phisight.train.examples.number_targets import NumberTargets
from phisight.train.examples.tokenize import (
    Conversations,
    encode_answer,
    example_lengths,
    image_token_counts,
    split_by_length,
)

KEPT_TOKENS = 4_000_000
"""Tokens of a data set whose examples stay in memory once they are tokenized; each takes up to 24 bytes."""


class Example(TypedDict):
    """One example, not yet collated."""

    input_ids: Tensor
    """int64[T]"""
    labels: Tensor
    """int64[T], -100 where nothing is trained"""
    pixel_values: NotRequired[list[Tensor]]
    """float32[1 + tiles, 3, S, S] of each image; absent where features replace them"""
    image_features: NotRequired[list[Tensor]]
    """[1 + tiles, n, n, 4V] of each image: the frozen tower's features of these crops"""
    image_sizes: NotRequired[Tensor]
    """int64[images, 2]: height and width after padding"""
    trunk_states: NotRequired[Tensor]
    """[T, D]: hidden states before decoder layer ``first_layer``; they replace images and text"""
    first_layer: NotRequired[int]
    label_weights: NotRequired[Tensor]
    """float32[T]: how often each label counts; absent means once"""
    numbers: NotRequired[Tensor]
    """float64[T]: a number at the position that its first digit is predicted from, NaN elsewhere"""


class _Text(NamedTuple):
    """The text of an example, and what it was made with."""

    targets: NumberTargets | None
    tokens: Sequence[int]
    example: Example


class _Images(NamedTuple):
    """The images of an example."""

    tensors: dict[str, Any]
    """As an ``Example`` holds them."""
    tokens: list[int]
    """How many each takes."""

    @property
    def bytes(self) -> int:
        """Memory of pixels or features."""
        crops = [one for name, some in self.tensors.items() if name != "image_sizes" for one in some]
        return sum(one.untyped_storage().nbytes() for one in crops)


class ExampleSet(Dataset[Example]):
    """Examples of a split, prepared on access; their pixels or features stay in memory up to a limit of bytes.

    ``load_image`` turns an image's row into an image. With ``augment`` set, an example's images differ from epoch to
    epoch (``in_epoch``), and decoded images stay in memory instead. With ``features`` set, the tower's cached features
    replace the pixels; with ``trunk``, cached hidden states replace images and text; with ``targets``, examples carry
    the targets of their numbers. Neither text nor image is ever truncated: see ``split_by_length``.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        load_image: Callable[[Mapping[str, Any]], Image.Image],
        processor: Any,
        task: Task,
        *,
        num_crops: int | None = None,
        keep_bytes: int = 0,
        lengths: Sequence[int] | None = None,
        augment: Augment | None = None,
    ) -> None:
        self.rows = rows
        self.processor = processor
        self.task = task
        self.num_crops = num_crops or processor.image_processor.num_crops
        self._load_image = load_image
        self._conversations = Conversations(processor, task)
        self._free_bytes = keep_bytes
        self._in_memory: dict[int, _Images] = {}
        self._decoded: dict[tuple[int, int], Image.Image] = {}
        self._texts: dict[int, _Text] = {}
        self._free_tokens = KEPT_TOKENS
        self._lengths = lengths
        self.augment = augment
        self.features: FeatureCache | None = None
        self.trunk: TrunkCache | None = None
        self.targets: NumberTargets | None = None

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each example, image tokens counted; known without opening an image."""
        if self._lengths is None:
            self._lengths = example_lengths(self.rows, self.processor, self.task, self.num_crops)
        return self._lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        if self.trunk:
            return self._from_trunk(index, self.trunk)
        return self._with_text(index, *self._kept_images(index))

    def _kept_images(self, index: int) -> _Images:
        """The images of an example, kept while there is room; pixels make room for features."""
        kept = self._in_memory.get(index)
        if kept is not None and self._images_name in kept.tensors:
            return kept
        if kept is not None:
            self._free_bytes += self._in_memory.pop(index).bytes
        images = self.images(self.rows[index])
        if images.bytes <= self._free_bytes:
            self._free_bytes -= images.bytes
            self._in_memory[index] = images
        return images

    @property
    def _images_name(self) -> Literal["image_features", "pixel_values"]:
        """What an ``Example`` calls its images."""
        return "image_features" if self.features else "pixel_values"

    def in_epoch(self, index: int, epoch: int) -> Example:
        """The example as an epoch shows it."""
        if self.augment is None:
            return self[index]
        pixels = [
            self._as_pixels(self.augment(self._image(index, place, row), epoch, index, place))
            for place, row in enumerate(images_of(self.rows[index]))
        ]
        return self._with_text(index, *self._with_tokens("pixel_values", pixels))

    def _image(self, index: int, place: int, row: Mapping[str, Any]) -> Image.Image:
        """A decoded image of a row, kept while there is room."""
        if (index, place) in self._decoded:
            return self._decoded[index, place]
        image = self._load_image(row).convert("RGB")
        size = 3 * image.width * image.height
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._decoded[index, place] = image
        return image

    @property
    def names(self) -> list[str]:
        """Name of each example in a cache of hidden states."""
        return [self._name(row, self._text(row)[0]) for row in self.rows]

    def _name(self, row: Mapping[str, Any], ids: list[int]) -> str:
        return example_name(" ".join(str(one.get(SHA256)) for one in images_of(row)), ids)

    def _from_trunk(self, index: int, trunk: TrunkCache) -> Example:
        ids, labels = self._text(self.rows[index])
        states = trunk.read(self._name(self.rows[index], ids))
        text: Example = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
        cached: Example = {**text, "trunk_states": states, "first_layer": trunk.first_layer}
        return self._with_targets(self.rows[index], cached)

    def _text(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """Ids and labels from the image sizes stored in the row; no image is opened."""
        return self._encoded(row, image_token_counts(row, self.num_crops, self.processor.image_processor.crop_size))

    def _encoded(self, row: Mapping[str, Any], tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        chat = self._conversations.of(row)
        return encode_answer(self.processor, chat.prompt, chat.answer, tokens)

    def prepare(self, index: int) -> Example:
        """The example with its pixels or with cached features of the tower, not stored in memory."""
        return self._with_text(index, *self.images(self.rows[index]))

    def _with_text(self, index: int, images: Mapping[str, Any], tokens: Sequence[int]) -> Example:
        """The example of these images, of so many tokens each."""
        return cast(Example, {**self._text_of(index, tokens), **images})

    def _text_of(self, index: int, tokens: Sequence[int]) -> Example:
        """Ids, labels and targets of an example, tokenized once while there is room."""
        known = self._texts.get(index)
        if known is not None and known.targets is self.targets and known.tokens == tokens:
            return known.example
        ids, labels = self._encoded(self.rows[index], tokens)
        text: Example = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
        example = self._with_targets(self.rows[index], text)
        if known is not None or len(ids) <= self._free_tokens:
            self._free_tokens -= 0 if known else len(ids)
            self._texts[index] = _Text(self.targets, tokens, example)
        return example

    def images(self, row: Mapping[str, Any]) -> _Images:
        """The images of a row."""
        read = [self.features.read(one[SHA256]) if self.features else self.pixels(one) for one in images_of(row)]
        return self._with_tokens(self._images_name, read)

    def _with_tokens(self, name: str, read: Sequence[tuple[Tensor, Tensor]]) -> _Images:
        """Crops (or their features) and sizes of images under the names of an ``Example``."""
        crops, sizes = [one for one, _ in read], torch.stack([size for _, size in read])
        crop_size = self.processor.image_processor.crop_size
        tokens = [grid_tokens(height, width, crop_size) for height, width in (sizes // crop_size).tolist()]
        return _Images({name: crops, "image_sizes": sizes}, tokens)

    def _with_targets(self, row: Mapping[str, Any], example: Example) -> Example:
        """The example with the targets of its numbers."""
        return cast(Example, {**example, **self.targets(row, example["labels"])}) if self.targets else example

    def pixels(self, row: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Crops float32[1 + tiles, 3, S, S] of an image's row, and its size int64[2] after padding."""
        return self._as_pixels(self._load_image(row))

    def _as_pixels(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        pixels = self.processor.image_processor(image, num_crops=self.num_crops, pad_crops=False, return_tensors="pt")
        return _shared_memory(pixels["pixel_values"][0]), pixels["image_sizes"][0]


def example_set(
    recipe: Recipe,
    load_image: Callable[[Mapping[str, Any]], Any],
    rows: Sequence[Mapping[str, Any]],
    processor: Any,
    task: Task,
    augment: Augment | None = None,
) -> tuple[ExampleSet, int]:
    """Rows as a dataset of examples, and how many are left out as too long.

    Raises:
        SettingsError: Examples are too long and ``data.too_long`` is ``error``.
    """
    limit = recipe.data.max_length or processor.tokenizer.model_max_length
    num_crops = recipe.model.num_crops or processor.image_processor.num_crops
    fitting, lengths, too_long = split_by_length(rows, processor, task, num_crops, limit)
    if too_long and recipe.data.too_long == "error":
        raise SettingsError(
            f"{len(too_long)} of {len(rows)} examples are longer than {limit} tokens (the longest {max(too_long)}); "
            "raise data.max_length, lower model.num_crops, or set data.too_long to leave_out"
        )
    examples = ExampleSet(
        fitting,
        load_image,
        processor,
        task,
        num_crops=num_crops,
        keep_bytes=int(recipe.data.keep_pixels_gb * 1e9) if recipe.data.workers == 0 else 0,
        lengths=lengths,
        augment=augment,
    )
    return examples, len(too_long)


def _shared_memory(crops: Tensor) -> Tensor:
    """Crops [1 + tiles, 3, S, S]; where the thumbnail equals the only tile, both share their memory."""
    if len(crops) == 2 and torch.equal(crops[0], crops[1]):
        return crops[:1].clone().expand(2, -1, -1, -1)
    return crops
