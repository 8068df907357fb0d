"""Chat text of a row, its token ids and its labels.

    <|user|>\\n<|image_1|>\\n{prompt}<|end|>\\n<|assistant|>\\n{answer}<|end|>
    '-------------------- label -100 --------------------------''---- trained ----'

Only the answer and the token that ends it are labeled; prompt, image placeholders and padding never count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from phisight.core.dataset_folder import HEIGHT, WIDTH
from phisight.core.errors import DataError, some
from phisight.core.geometry import image_tokens
from phisight.core.task import Task
from phisight.data.dataset.image_groups import images_of
from phisight.model.loss import IGNORED

TURN_END = "<|end|>"


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
    """Chat text of the rows of one task; the prompt is rendered once for each number of images."""

    def __init__(self, processor: Any, task: Task) -> None:
        self._processor = processor
        self._task = task
        self._special = list(processor.tokenizer.get_added_vocab())
        self._prompts = Prompts(processor)

    def of(self, row: Mapping[str, Any]) -> Conversation:
        """Chat text of a row; DataError when the answer contains a special token (it would end the turn early)."""
        answer = self._task.render(row)
        special = [token for token in self._special if token in answer]
        if special or "<|image_" in answer:
            raise DataError(
                f"the answer {answer[:60]!r} contains the special token {some(special) or '<|image_'}; "
                "remove it from the table"
            )
        return Conversation(self._prompts.of(self._task.prompt, len(images_of(row))), answer + TURN_END)


class Prompts:
    """Prompts as chat text, each rendered once."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._rendered: dict[tuple[str, int], str] = {}

    def of(self, prompt: str, images: int) -> str:
        """``prompt_text`` of a prompt about some images."""
        key = (prompt, images)
        if key not in self._rendered:
            self._rendered[key] = prompt_text(self._processor, prompt, images)
        return self._rendered[key]


def prompt_text(processor: Any, prompt: str, images: int = 1) -> str:
    """A prompt about some images, as chat text up to the answer."""
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": prompt}]
    messages = [{"role": "user", "content": content}]
    return cast(str, processor.apply_chat_template(messages, add_generation_prompt=True))


def encode_answer(processor: Any, prompt: str, answer: str, image_tokens: Sequence[int]) -> tuple[list[int], list[int]]:
    """Ids and labels of prompt + answer; the labels start where the encoded prompt ends."""
    prompt_ids = processor.encode(prompt, image_tokens)
    ids = processor.encode(prompt + answer, image_tokens)
    assert ids[: len(prompt_ids)] == prompt_ids, "the answer changes how the prompt is tokenized"
    return ids, [IGNORED] * len(prompt_ids) + ids[len(prompt_ids) :]


def image_token_counts(row: Mapping[str, Any], num_crops: int, crop_size: int) -> list[int]:
    """Tokens of each image of a row, from the sizes stored in the row; no image is opened."""
    return [image_tokens(one[WIDTH], one[HEIGHT], num_crops, crop_size) for one in images_of(row)]


def example_lengths(rows: Sequence[Mapping[str, Any]], processor: Any, task: Task, num_crops: int) -> list[int]:
    """Tokens of each row's example, from the sizes stored in the row; no image is opened."""
    lengths, conversations = [], Conversations(processor, task)
    for row in rows:
        tokens = image_token_counts(row, num_crops, processor.image_processor.crop_size)
        chat = conversations.of(row)
        lengths.append(len(processor.encode(chat.prompt + chat.answer, tokens)))
    return lengths


class LengthSplit(NamedTuple):
    """Rows whose examples fit into a limit of tokens."""

    rows: list[Mapping[str, Any]]
    lengths: list[int]
    """Tokens of each of them."""
    too_long: list[int]
    """Tokens of the examples over the limit."""


def split_by_length(
    rows: Sequence[Mapping[str, Any]], processor: Any, task: Task, num_crops: int, limit: int
) -> LengthSplit:
    """Rows whose examples fit into ``limit`` tokens, and the lengths of the others; no image is opened."""
    lengths = example_lengths(rows, processor, task, num_crops)
    fitting = [(row, length) for row, length in zip(rows, lengths, strict=True) if length <= limit]
    too_long = [length for length in lengths if length > limit]
    return LengthSplit([row for row, _ in fitting], [length for _, length in fitting], too_long)
