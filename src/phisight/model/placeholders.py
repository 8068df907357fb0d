"""Which rows of the token sequence are image slots, and which image fills each.

A slot is a placeholder id (``config.image_token_id``) or an official negative id: -N for the N-th image of its row. The
slots of one image stand together. Counts are compared image by image: as a total over the batch, one too many here and
one too few there would cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phisight.core.errors import ImageSlotError


@dataclass(frozen=True)
class SlotRun:
    """Slots of one image: ``length`` places of row ``row`` from ``start`` on, all with the id ``token``."""

    row: int
    start: int
    length: int
    token: int


def slot_mask(input_ids: Tensor, image_token_id: int) -> Tensor:
    """bool[B, T]: true where an image belongs."""
    return (input_ids < 0) | (input_ids == image_token_id)


def slot_runs(input_ids: Tensor, image_token_id: int) -> list[SlotRun]:
    """Runs of slots with one id, row by row, left to right."""
    slots = slot_mask(input_ids, image_token_id)
    before = torch.nn.functional.pad(input_ids, (1, 0), value=0)[:, :-1]
    first = slots & ((input_ids != before) | ~torch.nn.functional.pad(slots, (1, 0))[:, :-1])
    starts = first.nonzero().tolist()
    run_of_slot = first.flatten().cumsum(0)[slots.flatten()] - 1
    lengths = torch.bincount(run_of_slot, minlength=len(starts)).tolist() if starts else []
    tokens = input_ids[first].tolist()
    return [SlotRun(row, start, n, token) for (row, start), n, token in zip(starts, lengths, tokens, strict=True)]


def images_of_runs(runs: Sequence[SlotRun], feature_counts: Sequence[int]) -> list[int]:
    """Number of the image (in batch order) that fills each run; ImageSlotError names row, image and both counts."""
    if len(runs) != len(feature_counts):
        rows = sorted({run.row for run in runs})
        raise ImageSlotError(
            f"the prompts hold {len(runs)} runs of image slots (rows {rows}) but {len(feature_counts)} images "
            "are given; each image needs its own run, with another token between two of them"
        )
    per_row: dict[int, int] = {}
    for run in runs:
        per_row[run.row] = per_row.get(run.row, 0) + 1
    offsets, total = {}, 0
    for row in sorted(per_row):
        offsets[row], total = total, total + per_row[row]

    seen: dict[int, int] = {}
    images, used = [], set()
    for run in runs:
        seen[run.row] = seen.get(run.row, 0) + 1
        number = -run.token if run.token < 0 else seen[run.row]
        image = offsets[run.row] + number - 1
        if number > per_row[run.row] or image in used:
            raise ImageSlotError(
                f"row {run.row}: slots of image {number} at token {run.start}, but the row has {per_row[run.row]} "
                "images and each is used once; number the tags 1, 2, ... without a gap"
            )
        if run.length != feature_counts[image]:
            raise ImageSlotError(
                f"row {run.row}, image {number}: the prompt holds {run.length} image slots but the projector made "
                f"{feature_counts[image]} features; was the image resized after encoding?"
            )
        used.add(image)
        images.append(image)
    return images
