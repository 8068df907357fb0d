"""A phi3_v of 50 thousand parameters, its tokenizer and images: all from seeds, the same on every machine.

Crops of 56 pixels (2 x 2 tokens), three decoder and three tower layers, a tokenizer of single characters. Weights come
from NumPy's frozen legacy generator and are scaled so that small mistakes show: token embeddings are small, so a wrong
norm epsilon is visible.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from phisight.model import Phi3VConfig, Phi3VImageProcessor, Phi3VisionForConditionalGeneration, Phi3VProcessor

CROP = 56
ORIGINAL_LENGTH = 96
SPECIAL = ("<|endoftext|>", "<|end|>", "<|image|>", "<|user|>", "<|assistant|>", "<|system|>")
CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n"
VOCABULARY = ["<unk>", "<s>", "</s>", *CHARACTERS, *SPECIAL]
IDS = {token: number for number, token in enumerate(VOCABULARY)}


def config(**changes: Any) -> Phi3VConfig:
    """The small configuration; ``changes`` replace its values."""
    head = 8
    return Phi3VConfig(
        **{
            "vocab_size": 112,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 32 // head,
            "num_key_value_heads": 32 // head,
            "max_position_embeddings": 512,
            "original_max_position_embeddings": ORIGINAL_LENGTH,
            "rope_scaling": {
                "type": "su",
                "short_factor": [1.0, 1.1, 1.3, 1.6],
                "long_factor": [1.5, 3.0, 6.0, 9.0],
            },
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": IDS["<|endoftext|>"],
            "turn_end_token_id": IDS["<|end|>"],
            "image_token_id": IDS["<|image|>"],
            "vision_config": {
                "hidden_size": 24,
                "intermediate_size": 40,
                "num_hidden_layers": 3,
                "num_attention_heads": 3,
                "image_size": CROP,
            },
            **changes,
        }
    )


def _scale(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Centre and spread of a parameter's values."""
    if "norm" in name or "layrnorm" in name:
        return (1.0, 0.2) if name.endswith("weight") else (0.0, 0.2)
    if name.endswith("bias"):
        return 0.0, 0.2
    if "embed_tokens.weight" in name:
        return 0.0, 0.01
    if "embedding" in name or name.endswith("_GN"):
        return 0.0, 0.02 if "vision_model" in name else 1.0
    return 0.0, 1.6 / shape[-1] ** 0.5


@torch.no_grad()
def model(seed: int = 7, attention: str = "sdpa", **changes: Any) -> Phi3VisionForConditionalGeneration:
    """The small model with weights drawn from ``seed``, float32, ready to evaluate."""
    wanted = config(**changes)
    wanted._attn_implementation = attention
    made = Phi3VisionForConditionalGeneration(wanted)
    draw = np.random.RandomState(seed)
    for name, parameter in sorted(made.named_parameters()):
        center, spread = _scale(name, tuple(parameter.shape))
        values = draw.standard_normal(tuple(parameter.shape)) * spread + center
        parameter.copy_(torch.from_numpy(values))
    made.eval()
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; special tokens and BOS as the published tokenizer has them."""
    inner = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(["<unk>", "<s>", "</s>", *SPECIAL])
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", IDS["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def processor(num_crops: int = 6) -> Phi3VProcessor:
    """Processor of the small model."""
    return Phi3VProcessor(Phi3VImageProcessor(num_crops=num_crops, crop_size=CROP), tokenizer())


def image(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Coarse noise under fine noise, so that every place of the image differs from every other."""
    draw = np.random.RandomState(seed)
    coarse = draw.randint(0, 200, (1 + height // 9, 1 + width // 9, len(mode)))
    fine = np.repeat(np.repeat(coarse, 9, axis=0), 9, axis=1)[:height, :width] + draw.randint(
        0, 56, (height, width, len(mode))
    )
    return Image.fromarray(fine.astype(np.uint8))
