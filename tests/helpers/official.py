"""The recorded results of the official model, beside the clone in ``../shared/reference``.

A case's model is loaded the way a user loads one, through ``from_pretrained``, from a folder of links to the recorded
checkpoint with the case's changes in ``config.json``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

import phisight  # noqa: F401 - registers phi3_v with the Auto classes
from tests.helpers.golden_case import GoldenCase, Prompt

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
ABSENT = "the recorded results of the official model (../shared/reference) are not beside this clone"
ATTENTION = ("eager", "sdpa")
BY_BATCH = ("p3_batch_left_text_cross", "p35_batch_left_text_cross")
"""Batches whose rows cross ``original_max_position_embeddings`` at different steps. phisight decides the rotary factors
row by row; these two are compared under ``rope_switch: batch``, which decides as the official code does."""


def available() -> bool:
    """Whether the recorded results are there."""
    return (REFERENCE / "manifest.json").is_file()


@functools.cache
def manifest() -> dict[str, Any]:
    """The index of everything recorded; empty where it is absent, so that modules can be collected."""
    if not available():
        return {}
    found: dict[str, Any] = json.loads((REFERENCE / "manifest.json").read_text(encoding="utf-8"))
    return found


def entries(kind: str) -> list[Any]:
    """One list of the manifest, empty where the reference is absent."""
    found: list[Any] = manifest().get(kind, [])
    return found


def case_ids(*, bugs: bool = False) -> list[str]:
    """Names of the model cases, those that record a bug left out unless asked for."""
    return [case["id"] for case in entries("cases") if bugs or "known-bug" not in case["tags"]]


def entry(case_id: str) -> dict[str, Any]:
    """The manifest's words about a case."""
    found: dict[str, Any] = next(case for case in entries("cases") if case["id"] == case_id)
    return found


def image(file: str) -> Image.Image:
    """An input image by its path in the manifest."""
    with Image.open(REFERENCE / "images" / Path(file).name) as opened:
        opened.load()
        return opened


def decodes_the_same(file: str) -> bool:
    """Whether this machine's decoder gives the recorded pixels (another JPEG decoder may not)."""
    recorded = next(one["rgb_sha256"] for one in entries("images") if Path(one["file"]).name == Path(file).name)
    return bool(hashlib.sha256(image(file).convert("RGB").tobytes()).hexdigest() == recorded)


def widened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored integers as int64."""
    return {name: value if value.is_floating_point() else value.long() for name, value in tensors.items()}


@functools.cache
def load_case(case_id: str) -> GoldenCase:
    """A case with its tensors."""
    about = entry(case_id)
    names = manifest()["parameter_names"][about["model"]]
    return GoldenCase(
        id=case_id,
        prompts=[Prompt(one["text"], [image(file) for file in one["images"]]) for one in about["prompts"]],
        num_crops=about["num_crops"],
        tensors=widened(load_file(REFERENCE / about["file"])),
        loss=about["loss"],
        pad_side=about["pad_side"],
        grad_norm_names=[names[number] for number in about.get("grad_norm_name_ids", [])],
        grad_none_names=[names[number] for number in about.get("grad_none_ids", [])],
    )


def overrides(case_id: str) -> dict[str, Any]:
    """A case's changes to ``config.json``."""
    about = entry(case_id)
    return {**about["config_overrides"], **({"rope_switch": "batch"} if case_id in BY_BATCH else {})}


def folder(model: str, changes: dict[str, Any], into: Path) -> Path:
    """A checkpoint folder: links to the recorded files, ``config.json`` with ``changes``."""
    into.mkdir(parents=True, exist_ok=True)
    source = REFERENCE / model
    for file in source.iterdir():
        if file.name != "config.json":
            (into / file.name).symlink_to(file)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (into / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return into


@functools.cache
def _load(model: str, changes: str, attention: str, dtype: torch.dtype) -> tuple[Any, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        path = folder(model, json.loads(changes), Path(temporary) / "checkpoint")
        loaded = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, attn_implementation=attention)
        return loaded.eval(), AutoProcessor.from_pretrained(path)


def load_model(case_id: str, attention: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and processor of a case, loaded once for all cases with the same configuration."""
    return _load(entry(case_id)["model"], json.dumps(overrides(case_id), sort_keys=True), attention, dtype)
