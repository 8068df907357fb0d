"""A processor and a model with transformers' interface and no weights: the answer follows from the image's color.

The tokenizer's ids are bytes; an image takes as many slots as it is wide; the model reads the mean color of the
image that belongs to the row and checks what a real model relies on (left padding, one call with a cache).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

PAD, END, SLOT = 256, 257, 258
VOCAB = 259


class FakeTokenizer:
    pad_token_id = PAD
    eos_token_id = END
    all_special_ids = (PAD, END, SLOT)
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}
    padding_side = "right"

    def __len__(self) -> int:
        return VOCAB

    def get_vocab(self) -> dict[str, int]:
        return {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<pad>": PAD, "<end>": END, "<slot>": SLOT}

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        return SimpleNamespace(input_ids=list(text.encode()))


class FakeProcessor:
    """One byte a token; ``@`` is the image tag."""

    def __init__(self) -> None:
        self.tokenizer = FakeTokenizer()
        self.batches: list[int] = []

    def apply_chat_template(self, messages: Any, add_generation_prompt: bool, tokenize: bool) -> str:
        assert add_generation_prompt
        assert not tokenize
        (message,) = messages
        tags = "@" * sum(part["type"] == "image" for part in message["content"])
        texts = "".join(part.get("text", "") for part in message["content"])
        return f"<user>{tags}{texts}<assistant>"

    def __call__(self, text: Any, images: Any, **kwargs: Any) -> dict[str, Tensor]:
        assert kwargs == {"padding": True, "return_tensors": "pt"}
        self.batches.append(len(text))
        rows, pixels, sizes = [], [], []
        for position, one in enumerate(text):
            row_images = images[position] if images else []
            assert one.count("@") == len(row_images)
            ids: list[int] = []
            for part in one.encode():
                if part == ord("@"):
                    image = row_images[len(ids) and sum(token == -1 for token in ids)]
                    ids += [-1] + [SLOT] * (image.width - 1)
                    pixels.append(torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32))
                    sizes.append(torch.tensor(image.size))
                else:
                    ids.append(part)
            rows.append(ids)
        width = max(len(row) for row in rows)
        left = self.tokenizer.padding_side == "left"
        fill = [[PAD] * (width - len(row)) for row in rows]
        masks = [
            [0] * len(pad) + [1] * len(row) if left else [1] * len(row) + [0] * len(pad)
            for pad, row in zip(fill, rows, strict=True)
        ]
        ids_tensor = torch.tensor([pad + row if left else row + pad for pad, row in zip(fill, rows, strict=True)])
        inputs = {"input_ids": ids_tensor, "attention_mask": torch.tensor(masks)}
        return inputs | ({"pixel_values": torch.stack(pixels), "image_sizes": torch.stack(sizes)} if pixels else {})

    def batch_decode(self, ids: Tensor, skip_special_tokens: bool) -> list[str]:
        assert skip_special_tokens
        return [bytes(token for token in row if 0 <= token < 256).decode() for row in ids.tolist()]


class FakeModel:
    """``answer(r, g, b)`` of the row's first image; without an image ``answer(0, 0, 0)``."""

    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(self, answer: Callable[[int, int, int], str]) -> None:
        self._answer = answer
        self.training = True
        self.calls: list[int] = []

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def _texts(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor | None) -> list[str]:
        assert not self.training
        assert bool(attention_mask[:, -1].all()), "padding must stand on the left"
        colors = iter(pixel_values.tolist()) if pixel_values is not None else iter([])
        texts = []
        for row in input_ids.tolist():
            mine = [next(colors) for _ in range(row.count(-1))]
            texts.append(self._answer(*(int(value) for value in mine[0])) if mine else self._answer(0, 0, 0))
        return texts

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> Tensor:
        assert kwargs["use_cache"]
        assert not kwargs["do_sample"]
        pixels = kwargs.get("pixel_values")
        assert pixels is None or pixels.dtype == self.dtype
        self.calls.append(len(input_ids))
        wanted = [[*text.encode(), END] for text in self._texts(input_ids, attention_mask, pixels)]
        ids = input_ids
        for place in range(kwargs["max_new_tokens"]):
            scores = torch.zeros(len(ids), VOCAB)
            for row, tokens in enumerate(wanted):
                scores[row, tokens[place] if place < len(tokens) else END] = 1.0
            for processor in kwargs.get("logits_processor") or []:
                scores = processor(ids, scores)
            following = scores.argmax(-1)
            ended = (ids[:, input_ids.shape[1] :] == END).any(-1)
            ids = torch.cat([ids, following.where(~ended, torch.tensor(PAD))[:, None]], dim=1)
            if (ids[:, input_ids.shape[1] :] == END).any(-1).all():
                break
        return ids

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, logits_to_keep: int, **kwargs: Any
    ) -> Any:
        """Logit 5 for the byte the model would say at that place of the answer, 0 for the others."""
        texts = self._texts(input_ids, attention_mask, kwargs.get("pixel_values"))
        assert bool((position_ids.max(-1).values + 1 == attention_mask.sum(-1)).all())
        logits = torch.zeros(*input_ids.shape, VOCAB, dtype=self.dtype)
        mark = list(b"<assistant>")
        for row, ids in enumerate(input_ids.tolist()):
            begin = next(at for at in range(len(ids)) if ids[at - len(mark) : at] == mark)
            for offset, token in enumerate(texts[row].encode()):
                if begin + offset <= len(ids):
                    logits[row, begin + offset - 1, token] = 5.0
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])

    def __call__(self, **inputs: Any) -> Any:
        assert set(inputs) - {"pixel_values", "image_sizes"} <= set(inspect.signature(self.forward).parameters)
        return self.forward(**inputs)
