"""Image placeholders in the token sequence, and which image fills each run of them.

A placeholder is ``config.image_token_id`` or an official negative id: -N for the N-th image of its row. The
placeholders of one image are consecutive. Counts are compared image by image: as a total over the batch, one too many
here and one too few there would cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phisight.core.errors import ImagePlaceholderError


@dataclass(frozen=True)
class PlaceholderRun:
    """Placeholders of one image: ``length`` positions of row ``row`` from ``start`` on, all with the id ``token``."""

    row: int
    start: int
    length: int
    token: int


def placeholder_mask(input_ids: Tensor, image_token_id: int) -> Tensor:
    """bool[B, T]: true at image placeholders."""
    return (input_ids < 0) | (input_ids == image_token_id)


def placeholder_runs(input_ids: Tensor, image_token_id: int) -> list[PlaceholderRun]:
    """Runs of placeholders with one id, row by row, left to right."""
    is_image_BT = placeholder_mask(input_ids, image_token_id)
    previous_BT = torch.nn.functional.pad(input_ids, (1, 0), value=0)[:, :-1]
    starts_BT = is_image_BT & ((input_ids != previous_BT) | ~torch.nn.functional.pad(is_image_BT, (1, 0))[:, :-1])
    starts = starts_BT.nonzero().tolist()
    run_of_placeholder = starts_BT.flatten().cumsum(0)[is_image_BT.flatten()] - 1
    lengths = torch.bincount(run_of_placeholder, minlength=len(starts)).tolist() if starts else []
    tokens = input_ids[starts_BT].tolist()
    return [
        PlaceholderRun(row, start, n, token) for (row, start), n, token in zip(starts, lengths, tokens, strict=True)
    ]


def images_of_runs(
    runs: Sequence[PlaceholderRun], feature_counts: Sequence[int], image_index: Tensor | None = None
) -> list[int]:
    """Index, in batch order, of the image that fills each run; ImagePlaceholderError where the counts differ.

    Where one image fills several runs, ``image_index`` int64[runs] names the image of each, as if each had its own.
    """
    if image_index is not None:
        shown: list[int] = image_index.tolist()
        return [shown[run] for run in images_of_runs(runs, [feature_counts[image] for image in shown])]
    if len(runs) != len(feature_counts):
        rows = sorted({run.row for run in runs})
        raise ImagePlaceholderError(
            f"the prompts hold {len(runs)} runs of image placeholders (rows {rows}) but {len(feature_counts)} images "
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
            raise ImagePlaceholderError(
                f"row {run.row}: placeholders of image {number} at token {run.start}, but the row has "
                f"{per_row[run.row]} images and each is used once; number the tags 1, 2, ... without a gap"
            )
        if run.length != feature_counts[image]:
            raise ImagePlaceholderError(
                f"row {run.row}, image {number}: the prompt holds {run.length} image placeholders but the projector "
                f"made {feature_counts[image]} features; was the image resized after encoding?"
            )
        used.add(image)
        images.append(image)
    return images
