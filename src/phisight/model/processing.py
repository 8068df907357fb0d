"""Text and images to model inputs.

    "<|user|>\\n<|image_1|>\\nWhat?<|end|>\\n<|assistant|>\\n"
      --split at the tags--> chunks, each tokenized on its own with its own BOS (the published format)
      --image placeholders between them--> input_ids;   images in the order of their tags --> pixel_values, image_sizes

Source: the official ``Phi3VProcessor``. Where that one is wrong (the order of tags is ignored, a repeated tag passes,
padding and truncation are swallowed) this one is not; docs/numerics.md lists the differences.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import BatchFeature, ProcessorMixin

from phisight.core.errors import ImageTagError, TruncationError, some
from phisight.core.geometry import image_tokens

IMAGE_TOKEN = "<|image|>"  # noqa: S105 - the placeholder's name
MOST_TAGS = 256
_TAG = re.compile(r"<\|image_(\d+)\|>")

CHAT_TEMPLATE = (
    "{%- set ns = namespace(images=0) -%}"
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>\\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}"
    "{%- set ns.images = ns.images + 1 -%}{{- '<|image_' ~ ns.images ~ '|>\\n' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '<|end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt and messages[-1]['role'] != 'assistant' -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
)
"""The published chat format; besides ``<|image_1|>`` in the text it takes ``{"type": "image"}`` parts."""


class Phi3VProcessor(ProcessorMixin):
    """Processor of Phi-3-Vision and Phi-3.5-Vision (the official name, which published files refer to)."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **_: Any):
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that a call may return."""
        return ["input_ids", "attention_mask", "pixel_values", "image_sizes"]

    @property
    def img_tokens(self) -> list[str]:
        """Tags of the first images of a prompt (what vLLM asks a processor of this model for)."""
        return [f"<|image_{number}|>" for number in range(1, MOST_TAGS + 1)]

    def calc_num_image_tokens_from_image_size(self, width: int, height: int) -> int:
        """Image tokens of an image of ``width`` x ``height`` pixels (what vLLM asks for)."""
        return image_tokens(width, height, self.image_processor.num_crops, self.image_processor.crop_size)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        padding: bool | str = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        add_special_tokens: bool = True,
        padding_side: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Encode texts and their images (a path or an address of one is read as the library reads it).

        ``text`` is one text or several; ``images`` one image, a list, or a list for each text (a flat list is
        distributed by the number of tags). Returns ``input_ids`` and ``attention_mask`` (int64[B, T] as tensors; lists
        of ints when ``return_tensors`` is None), and where there are images ``pixel_values``
        float32[images, crops + 1, 3, S, S] and ``image_sizes`` int64[images, 2], in the order of their tags.

        ImageTagError when tags and images do not match; TruncationError when ``truncation`` to ``max_length`` would
        cut an image: text is truncated at its end, an image never.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        if not texts:
            raise ImageTagError("no text given; a prompt needs at least its image tag, as in '<|image_1|>'")
        tags = [[int(number) for number in _TAG.findall(one)] for one in texts]
        images_of_text = _images_of_texts(images, tags)
        ordered: list[Any] = []
        for row, (numbers, own) in enumerate(zip(tags, images_of_text, strict=True)):
            _check_tags(row, numbers, len(own), texts[row])
            ordered += [own[number - 1] for number in numbers]

        vision: dict[str, Any] = {}
        counts: list[int] = []
        if ordered:
            features = self.image_processor(ordered, return_tensors=return_tensors, **_image_options(kwargs))
            counts = features.pop("num_img_tokens")
            vision = dict(features)
        ids, start = [], 0
        for one, numbers in zip(texts, tags, strict=True):
            ids.append(self.encode(one, counts[start : start + len(numbers)], add_special_tokens=add_special_tokens))
            start += len(numbers)
        if truncation:
            limit = max_length or self.tokenizer.model_max_length
            ids = [self._cut(row, one, limit) for row, one in enumerate(ids)]
        batch = self._pad(ids, padding, max_length, padding_side or self.tokenizer.padding_side)
        return BatchFeature(data={**batch, **vision}, tensor_type=return_tensors)

    def encode(self, text: str, image_tokens: Sequence[int] = (), *, add_special_tokens: bool = True) -> list[int]:
        """Ids of one text; the n-th tag in it becomes ``image_tokens[n]`` placeholders.

        Every chunk between tags is tokenized on its own, each with its own BOS: so the published model was trained.
        """
        if IMAGE_TOKEN in text:
            raise ImageTagError(
                f"the text holds {IMAGE_TOKEN}, which is one image placeholder inside the model; "
                "write <|image_1|> where the image belongs"
            )
        chunks = _TAG.split(text)[0::2]
        ids: list[int] = list(self.tokenizer(chunks[0], add_special_tokens=add_special_tokens).input_ids)
        for count, chunk in zip(image_tokens, chunks[1:], strict=True):
            ids += [self.image_token_id] * count
            ids += self.tokenizer(chunk, add_special_tokens=add_special_tokens).input_ids
        return ids

    def _cut(self, row: int, ids: list[int], limit: int) -> list[int]:
        placeholders = [index for index, token in enumerate(ids) if token == self.image_token_id]
        if placeholders and placeholders[-1] >= limit:
            raise TruncationError(
                f"row {row}: a limit of {limit} tokens would cut an image (its placeholders reach "
                f"{placeholders[-1] + 1} of {len(ids)} tokens); raise max_length or lower num_crops"
            )
        return ids[:limit]

    def _pad(
        self, ids: list[list[int]], padding: bool | str, max_length: int | None, side: str
    ) -> dict[str, list[list[int]]]:
        masks = [[1] * len(one) for one in ids]
        if padding and padding != "do_not_pad":
            width = max(len(one) for one in ids)
            if padding == "max_length":
                width = max(width, max_length or 0)
            pad, left = self.tokenizer.pad_token_id, side == "left"
            for row, one in enumerate(ids):
                fill = width - len(one)
                ids[row] = [pad] * fill + one if left else one + [pad] * fill
                masks[row] = [0] * fill + masks[row] if left else masks[row] + [0] * fill
        return {"input_ids": ids, "attention_mask": masks}

    def to_dict(self) -> dict[str, Any]:
        """What ``processor_config.json`` holds: the class alone, as published; each part has its own file."""
        return {"processor_class": type(self).__name__}

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Write the published set of files, readable by older releases of the library too.

        The image processor goes into ``preprocessor_config.json``, and the tokenizer is filed under the class name
        that every release knows.
        """
        written = super().save_pretrained(save_directory)
        self.image_processor.save_pretrained(save_directory)
        settings = Path(save_directory) / "tokenizer_config.json"
        values = json.loads(settings.read_text(encoding="utf-8"))
        values["tokenizer_class"] = "PreTrainedTokenizerFast"
        values.pop("auto_map", None)
        settings.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return written

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        """Texts of ids; image placeholders (``<|image|>`` or official negative ids) are dropped."""
        return [self.decode(sequence, **kwargs) for sequence in sequences]

    def decode(self, sequence: Any, **kwargs: Any) -> str:
        """Text of ids; image placeholders (``<|image|>`` or official negative ids) are dropped."""
        ids = sequence.tolist() if hasattr(sequence, "tolist") else list(sequence)
        text_ids = [token for token in ids if token >= 0 and token != self.image_token_id]
        return str(self.tokenizer.decode(text_ids, **kwargs))


def _image_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs.get("images_kwargs", {}), **{k: kwargs[k] for k in ("num_crops", "pad_crops") if k in kwargs}}


def _images_of_texts(images: Any, tags: list[list[int]]) -> list[list[Any]]:
    """Images of each text: one list per text as given, or a flat list distributed by the number of tags."""
    if images is None:
        return [[] for _ in tags]
    if not isinstance(images, (list, tuple)):
        images = [images]
    if any(item is None or isinstance(item, (list, tuple)) for item in images):
        if len(images) != len(tags):
            raise ImageTagError(f"{len(tags)} texts but {len(images)} lists of images; give one list for each text")
        return [list(item) if isinstance(item, (list, tuple)) else [] if item is None else [item] for item in images]
    if len(tags) == 1:
        return [list(images)]
    counts = [len(set(numbers)) for numbers in tags]
    if sum(counts) != len(images):
        raise ImageTagError(
            f"{len(tags)} texts name {sum(counts)} images but {len(images)} are given; give one list for each text"
        )
    rest = iter(images)
    return [[next(rest) for _ in range(count)] for count in counts]


def _check_tags(row: int, numbers: list[int], images: int, text: str) -> None:
    """Tags must name 1..images, each once."""
    repeated = sorted({number for number in numbers if numbers.count(number) > 1})
    if repeated:
        raise ImageTagError(
            f"row {row}: <|image_{repeated[0]}|> stands {numbers.count(repeated[0])} times; give each image its own tag"
        )
    if len(numbers) != images:
        raise ImageTagError(
            f"row {row}: {len(numbers)} image tags but {images} images in {text[:60]!r}; "
            "each image needs one tag, <|image_1|>, <|image_2|>, ..."
        )
    if sorted(numbers) != list(range(1, images + 1)):
        raise ImageTagError(
            f"row {row}: the image tags are {some(sorted(numbers))} but must be 1 to {images} without a gap"
        )
