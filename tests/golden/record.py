"""Record what the small model computes: ``python -m tests.golden.record`` writes small.safetensors beside this file.

The official cases lie outside the project; these few are its own, so that a clone alone still notices every planted
fault. They are written only by code that is at parity with the official cases, which is checked first.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests.helpers import official, small_model
from tests.helpers.comparison import clip_sample, deviations, lattice, observe, require_parity
from tests.helpers.golden_case import GoldenCase, Prompt

RECORDED = Path(__file__).with_name("small.safetensors")
NUM_CROPS = 6
POSITIONS = 12
EVERY = 7
GRADIENTS_OF = (
    "model.norm.weight",
    "model.vision_embed_tokens.sub_GN",
    "model.vision_embed_tokens.img_projection.0.bias",
    "model.vision_embed_tokens.img_processor.vision_model.pre_layrnorm.weight",
)


def prompts() -> dict[str, tuple[list[Prompt], str | None]]:
    """The cases: rows and padding side. Images make grids of 2 x 3, 3 x 1 and 3 x 2 tiles."""
    question = "<|user|>\n<|image_1|>\nWhat?<|end|>\n<|assistant|>\n"
    turned = small_model.image(4, 60, 90)
    turned.getexif()[0x0112] = 6
    mixed = [
        Prompt(question, [small_model.image(2, 40, 130)]),
        Prompt("<|user|>\nHello there<|end|>\n"),
        Prompt(question, [small_model.image(3, 40, 130, "RGBA")]),
        Prompt("<|image_1|>", [turned]),
    ]
    return {
        "text": ([Prompt("<|user|>\nHello, who are you?<|end|>\n<|assistant|>\n")], None),
        "at_the_switch": ([Prompt("ab cd " * 15 + "abcde")], None),
        "past_the_switch": ([Prompt("ab cd " * 15 + "abcdef")], None),
        "image": ([Prompt(question, [small_model.image(1, 160, 100)])], None),
        "batch_right": (mixed, "right"),
        "batch_left": (mixed[:2], "left"),
    }


def _kept(case: GoldenCase, seen: dict[str, Any]) -> dict[str, Tensor]:
    """The stored part of what was observed."""
    mask, logits = seen["attention_mask"], seen["logits"]
    row, column = mask.nonzero()[:: max(1, int(mask.sum()) // POSITIONS)].unbind(1)
    top = logits.topk(2, dim=-1).values
    kept = {
        "input_ids": seen["input_ids"],
        "attention_mask": mask,
        "positions": torch.stack([row, column], 1),
        "vocab_ids": torch.arange(0, logits.shape[-1], EVERY),
        "inputs_embeds": seen["inputs_embeds"][row, column],
        "hidden_norm": seen["hidden_norm"][row, column],
        "logits": logits[row, column][:, ::EVERY],
        "logsumexp": logits.logsumexp(-1),
        "argmax": logits.argmax(-1),
        "top2_gap": top[..., 0] - top[..., 1],
    }
    if case.has_images:
        rows = torch.arange(0, len(seen["image_features"]), 3)
        kept |= {
            "image_sizes": seen["image_sizes"],
            "pixel_lattice": lattice(seen["pixel_values"]),
            "image_feature_rows": rows,
            "image_features": seen["image_features"][rows],
            "clip_layer_m2_sample": clip_sample(seen["clip_layer"]),
        }
    return kept


def _labels(batch: dict[str, Tensor], image_token_id: int) -> Tensor:
    ids, mask = batch["input_ids"], batch["attention_mask"]
    before = torch.nn.functional.pad(mask, (1, 0))[:, :-1]
    return ids.masked_fill((mask == 0) | (before == 0) | (ids == image_token_id), -100)


def record() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of every case, and what is said about them; parameters are named once and numbered."""
    model, processor = small_model.model(), small_model.processor(NUM_CROPS)
    tensors: dict[str, Tensor] = {}
    about: dict[str, Any] = {}
    for name, (rows, pad_side) in prompts().items():
        empty = GoldenCase(name, rows, NUM_CROPS, {"grad_norms": torch.zeros(0)}, 0.0, pad_side)
        empty.tensors["labels"] = _labels(empty.encode(processor), model.config.image_token_id)
        seen = observe(empty, model, processor)
        gradients = {key: value for key, value in seen["gradients"].items() if value is not None}
        names = list(seen["gradients"])
        kept = _kept(empty, seen) | {"labels": empty.tensors["labels"]}
        kept["grad_norms"] = torch.tensor([value.double().norm().item() for value in gradients.values()])
        kept |= {f"grad/{key}": gradients[key] for key in GRADIENTS_OF if key in gradients}
        tensors |= {f"{name}:{key}": _small(value) for key, value in kept.items()}
        about[name] = {
            "loss": seen["loss"],
            "grad_norm_names": [number for number, key in enumerate(names) if key in gradients],
            "grad_none_names": [number for number, key in enumerate(names) if key not in gradients],
        }
    return tensors, {"parameters": names, "cases": about}


def _small(value: Tensor) -> Tensor:
    """Whole numbers as int32; a copy, since views cannot be saved."""
    return (value if value.is_floating_point() else value.int()).contiguous().clone()


@functools.cache
def load() -> dict[str, GoldenCase]:
    """The recorded cases by name."""
    with safe_open(RECORDED, "pt") as file:
        words = json.loads(file.metadata()["about"])
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    cases = {}
    for name, (rows, pad_side) in prompts().items():
        own = {key.partition(":")[2]: value for key, value in stored.items() if key.startswith(f"{name}:")}
        about = words["cases"][name]
        norms, none = (
            [words["parameters"][number] for number in about[kind]] for kind in ("grad_norm_names", "grad_none_names")
        )
        cases[name] = GoldenCase(name, rows, NUM_CROPS, official.widened(own), about["loss"], pad_side, norms, none)
    return cases


def main() -> None:
    """Check parity with the official cases, then write the file."""
    if not official.available():
        sys.exit(f"{official.ABSENT}; without them nothing shows that this code is right")
    for case_id in ("p3_text_short", "p3_text_65", "p3_img_nc1_full", "p3_batch_right", "p35_img1", "p35_batch_right"):
        case = official.load_case(case_id)
        require_parity(case, deviations(case, observe(case, *official.load_model(case_id, "sdpa"))))
    tensors, about = record()
    save_file(tensors, RECORDED, metadata={"about": json.dumps(about)})
    print(f"{RECORDED.name}: {len(about['cases'])} cases, {RECORDED.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
