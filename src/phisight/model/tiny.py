"""The same classes in small: a model of a few million parameters and a tokenizer trained in seconds.

Everything that works on the published models works on this one: same names, same chat text, same special tokens, its
own crop size. It starts from random weights, so that a whole run can be tried on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from phisight.core.seeding import named_seed
from phisight.model.configuration import Phi3VConfig
from phisight.model.image_processing import Phi3VImageProcessor
from phisight.model.modeling import Phi3VisionForConditionalGeneration
from phisight.model.processing import IMAGE_TOKEN, Phi3VProcessor

BOS, END_OF_TEXT, TURN_END = "<s>", "<|endoftext|>", "<|end|>"
SPECIAL_TOKENS = ["<unk>", BOS, "</s>", END_OF_TEXT, "<|assistant|>", "<|system|>", TURN_END, "<|user|>", IMAGE_TOKEN]

TINY_BASE = "tiny-base"
"""Name of the small pretrained model that comes with the package, wherever a model is named."""

TINY_VISION: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 112,
    "patch_size": 14,
    "projection_dim": 128,
}
TINY_DECODER: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 4096,
    "sliding_window": 4096,
}


def tiny_processor(texts: Iterable[str], *, vocab_size: int = 1024, num_crops: int = 1) -> Phi3VProcessor:
    """Processor with a tokenizer trained on ``texts`` (any text still encodes: bytes are the fall-back)."""
    image_processor = Phi3VImageProcessor(num_crops=num_crops, crop_size=TINY_VISION["image_size"])
    return Phi3VProcessor(image_processor, train_tokenizer(texts, vocab_size))


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, split_punctuation: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-pair tokenizer with the published special tokens; digits stay single, as in the published vocabulary.

    With ``split_punctuation`` a comma is never part of a word's token.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    splits: list[Any] = [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    if split_punctuation:
        splits.append(pre_tokenizers.Punctuation("isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trained = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS + trained, show_progress=False, limit_alphabet=256
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Bytes were special for the trainer only; as such they must not be split off or left out of decoded text.
    state = _without_added(tokenizer.to_str(), set(trained))
    tokenizer = Tokenizer.from_str(state)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token=BOS,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=TINY_DECODER["max_position_embeddings"],
    )


def _without_added(state: str, names: set[str]) -> str:
    values = json.loads(state)
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in names]
    for token in values["added_tokens"]:
        token["rstrip"] = token["content"] == "<|assistant|>"
    return json.dumps(values)


def tiny_config(tokenizer: PreTrainedTokenizerFast, **overrides: Any) -> Phi3VConfig:
    """Configuration of the tiny model for a tokenizer; ``overrides`` replace single values."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (BOS, END_OF_TEXT, TURN_END, IMAGE_TOKEN)}
    values: dict[str, Any] = {
        **TINY_DECODER,
        "vocab_size": len(tokenizer),
        "vision_config": TINY_VISION,
        "bos_token_id": ids[BOS],
        "eos_token_id": ids[END_OF_TEXT],
        "pad_token_id": ids[END_OF_TEXT],
        "turn_end_token_id": ids[TURN_END],
        "image_token_id": ids[IMAGE_TOKEN],
    }
    return Phi3VConfig(**{**values, **overrides})


def tiny_model(config: Phi3VConfig, seed: int = 0) -> Phi3VisionForConditionalGeneration:
    """A tiny model with random weights, float32; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(named_seed(seed, "tiny-weights"))
        model = Phi3VisionForConditionalGeneration(config)
    model.float()
    return model


def packaged_folder() -> Path:
    """Where ``tiny-base`` is installed: configuration, bfloat16 weights, tokenizer, processor, card."""
    return Path(str(files("phisight.model"))) / TINY_BASE


def folder_or_name(name: str | Path) -> Path:
    """The packaged folder for ``tiny-base``; any other name as it is."""
    return packaged_folder() if str(name) == TINY_BASE else Path(name)
