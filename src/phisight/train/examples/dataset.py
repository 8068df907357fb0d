"""A row of the table to what the model trains on: ids, labels, pixels.

    <|user|>\\n<|image_1|>\\n{prompt}<|end|>\\n<|assistant|>\\n{answer}<|end|>
    '-------------------- label -100 --------------------------''---- trained ----'

Labels stand on the answer and the token that ends it; prompt, image slots and padding never count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from phisight.core.dataset_folder import HEIGHT, SHA256, WIDTH
from phisight.core.errors import DataError, some
from phisight.core.geometry import grid_tokens, image_tokens
from phisight.core.task import Task
from phisight.data.dataset.image_groups import images_of
from phisight.model.labels import IGNORED
from phisight.train.cache.hidden_states import TrunkCache, example_name
from phisight.train.cache.vision_features import FeatureCache
from phisight.train.examples.number_targets import NumberTargets

TURN_END = "<|end|>"


class Example(TypedDict):
    """One example, not yet batched."""

    input_ids: Tensor
    """int64[T]"""
    labels: Tensor
    """int64[T], -100 where nothing is trained"""
    pixel_values: NotRequired[list[Tensor]]
    """float32[1 + tiles, 3, S, S] of each picture; absent where features stand for it"""
    image_features: NotRequired[list[Tensor]]
    """[1 + tiles, n, n, 4V] of each picture: the frozen tower's features of these crops"""
    image_sizes: NotRequired[Tensor]
    """int64[pictures, 2]: height and width after padding"""
    trunk_states: NotRequired[Tensor]
    """[T, D]: hidden states before decoder layer ``first_layer``; they stand for picture and text"""
    first_layer: NotRequired[int]
    label_weights: NotRequired[Tensor]
    """float32[T]: how often each label counts; absent: once"""
    numbers: NotRequired[Tensor]
    """float64[T]: a number at the place that its first digit is predicted from, NaN elsewhere"""


@dataclass(frozen=True)
class Conversation:
    """Prompt and answer of a row as chat text."""

    prompt: str
    answer: str

    @classmethod
    def of(cls, processor: Any, task: Task, row: Mapping[str, Any]) -> Conversation:
        """Chat text of one row; see ``Conversations``."""
        return Conversations(processor, task).of(row)


class Conversations:
    """Chat text of the rows of one task; the prompt is rendered once for each number of pictures."""

    def __init__(self, processor: Any, task: Task) -> None:
        self._processor = processor
        self._task = task
        self._special = list(processor.tokenizer.get_added_vocab())
        self._prompts: dict[int, str] = {}

    def of(self, row: Mapping[str, Any]) -> Conversation:
        """Chat text of a row; DataError when the answer holds a special token (it would end the turn early)."""
        answer = self._task.render(row)
        special = [token for token in self._special if token in answer]
        if special or "<|image_" in answer:
            raise DataError(
                f"the answer {answer[:60]!r} holds the special token {some(special) or '<|image_'}; "
                "take it out of the table"
            )
        pictures = len(images_of(row))
        if pictures not in self._prompts:
            self._prompts[pictures] = prompt_text(self._processor, self._task, pictures)
        return Conversation(self._prompts[pictures], answer + TURN_END)


def prompt_text(processor: Any, task: Task, pictures: int = 1) -> str:
    """The task's prompt about some pictures, as chat text up to the answer."""
    content = [*({"type": "image"} for _ in range(pictures)), {"type": "text", "text": task.prompt}]
    messages = [{"role": "user", "content": content}]
    return cast(str, processor.apply_chat_template(messages, add_generation_prompt=True))


def encode_answer(processor: Any, prompt: str, answer: str, image_tokens: Sequence[int]) -> tuple[list[int], list[int]]:
    """Ids and labels of prompt + answer; the boundary is where the encoded prompt ends."""
    before = processor.encode(prompt, image_tokens)
    ids = processor.encode(prompt + answer, image_tokens)
    assert ids[: len(before)] == before, "the answer changes how the prompt is tokenised"
    return ids, [IGNORED] * len(before) + ids[len(before) :]


class ExampleSet(Dataset[Example]):
    """Examples of a split, prepared when asked for; prepared pictures are kept up to a limit of bytes.

    ``load_image`` turns a row into a picture; with ``features`` set, the tower's stored features stand for it, with
    ``trunk`` stored hidden states for picture and text. With ``targets``, examples carry what their numbers are learned
    from. Neither text nor picture is ever cut: see ``split_by_length``.
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
    ) -> None:
        self.rows = rows
        self.processor = processor
        self.task = task
        self.num_crops = num_crops or processor.image_processor.num_crops
        self._load_image = load_image
        self._conversations = Conversations(processor, task)
        self._keep_bytes = keep_bytes
        self._kept: dict[int, Example] = {}
        self._lengths = lengths
        self.features: FeatureCache | None = None
        self.trunk: TrunkCache | None = None
        self.targets: NumberTargets | None = None

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each example, image tokens counted; known without opening a picture."""
        if self._lengths is None:
            self._lengths = example_lengths(self.rows, self.processor, self.task, self.num_crops)
        return self._lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        if self.trunk:
            return self._stored(index, self.trunk)
        if self.features:
            return self.prepare(index)  # mapped from disk: the system keeps what fits
        if index in self._kept:
            return self._kept[index]
        example = self.prepare(index)
        size = sum(one.untyped_storage().nbytes() for one in example["pixel_values"])
        if size <= self._keep_bytes:
            self._keep_bytes -= size
            self._kept[index] = example
        return example

    @property
    def names(self) -> list[str]:
        """Name of each example in a cache of hidden states."""
        return [self._name(row, self._text(row)[0]) for row in self.rows]

    def _name(self, row: Mapping[str, Any], ids: list[int]) -> str:
        return example_name(" ".join(str(one.get(SHA256)) for one in images_of(row)), ids)

    def _stored(self, index: int, trunk: TrunkCache) -> Example:
        ids, labels = self._text(self.rows[index])
        states = trunk.read(self._name(self.rows[index], ids))
        text: Example = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
        stored: Example = {**text, "trunk_states": states, "first_layer": trunk.first_layer}
        return self._with_targets(self.rows[index], stored)

    def _text(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """Ids and labels from the sizes that stand in the row; no picture is opened."""
        return self._encoded(row, tokens_of_pictures(row, self.num_crops, self.processor.image_processor.crop_size))

    def _encoded(self, row: Mapping[str, Any], tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        chat = self._conversations.of(row)
        return encode_answer(self.processor, chat.prompt, chat.answer, tokens)

    def prepare(self, index: int) -> Example:
        """The example with its pixels, or with stored features of the tower; kept nowhere."""
        row = self.rows[index]
        read = [self.features.read(one[SHA256]) if self.features else self.pixels(one) for one in images_of(row)]
        crops, sizes = [one for one, _ in read], torch.stack([size for _, size in read])
        crop_size = self.processor.image_processor.crop_size
        tokens = [grid_tokens(height, width, crop_size) for height, width in (sizes // crop_size).tolist()]
        ids, labels = self._encoded(row, tokens)
        text: Example = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "image_sizes": sizes}
        text = self._with_targets(row, text)
        return {**text, "image_features": crops} if self.features else {**text, "pixel_values": crops}

    def _with_targets(self, row: Mapping[str, Any], example: Example) -> Example:
        """The example with what its numbers are learned from."""
        return cast(Example, {**example, **self.targets(row, example["labels"])}) if self.targets else example

    def pixels(self, row: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Crops float32[1 + tiles, 3, S, S] of a picture's row, and its size int64[2] after padding."""
        pixels = self.processor.image_processor(
            self._load_image(row), num_crops=self.num_crops, pad_crops=False, return_tensors="pt"
        )
        return _once(pixels["pixel_values"][0]), pixels["image_sizes"][0]


def _once(crops: Tensor) -> Tensor:
    """Crops [1 + tiles, 3, S, S]; where the thumbnail is the only tile again, both share their memory."""
    if len(crops) == 2 and torch.equal(crops[0], crops[1]):
        return crops[:1].clone().expand(2, -1, -1, -1)
    return crops


def tokens_of_pictures(row: Mapping[str, Any], num_crops: int, crop_size: int) -> list[int]:
    """Tokens of each picture of a row, from the sizes that stand there; no picture is opened."""
    return [image_tokens(one[WIDTH], one[HEIGHT], num_crops, crop_size) for one in images_of(row)]


def example_lengths(rows: Sequence[Mapping[str, Any]], processor: Any, task: Task, num_crops: int) -> list[int]:
    """Tokens of each row's example, from the sizes that stand in the row; no picture is opened."""
    lengths, conversations = [], Conversations(processor, task)
    for row in rows:
        tokens = tokens_of_pictures(row, num_crops, processor.image_processor.crop_size)
        chat = conversations.of(row)
        lengths.append(len(processor.encode(chat.prompt + chat.answer, tokens)))
    return lengths


class Fitting(NamedTuple):
    """Rows whose examples fit into a limit."""

    rows: list[Mapping[str, Any]]
    lengths: list[int]
    """Tokens of each of them."""
    too_long: list[int]
    """Tokens of those that do not fit."""


def split_by_length(
    rows: Sequence[Mapping[str, Any]], processor: Any, task: Task, num_crops: int, limit: int
) -> Fitting:
    """Rows whose examples fit into ``limit`` tokens, and the lengths of those that do not; no picture is opened."""
    lengths = example_lengths(rows, processor, task, num_crops)
    fitting = [(row, length) for row, length in zip(rows, lengths, strict=True) if length <= limit]
    too_long = [length for length in lengths if length > limit]
    return Fitting([row for row, _ in fitting], [length for _, length in fitting], too_long)
