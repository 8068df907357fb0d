"""Pairs of answers to one question about one image, as examples and batches of a preference loss.

pair    chosen answer | rejected answer | chosen answer under another product's image (where the loss has that term)
batch   the sides of all pairs as rows, or packed; each image once: ``image_index`` says which side shows which

sides        chosen 1, rejected 1, other 1, chosen 2, rejected 2, other 2
images       A         |           B        C         |           D
image_index  0         0           1        2         2           3
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from phisight.core.dataset_folder import GROUP, SHA256
from phisight.core.errors import DataError
from phisight.core.seeding import named_seed
from phisight.data.dataset.image_groups import images_of
from phisight.data.dataset.preference_pairs import CHOSEN, PROMPT, REJECTED
from phisight.model.loss import IGNORED
from phisight.train.cache.reference_scores import ReferenceScores
from phisight.train.examples.dataset import Example, ExampleSet
from phisight.train.examples.tokenize import TURN_END, Prompts, encode_answer, image_token_counts
from phisight.train.losses.preference import predicting_positions

Row = Mapping[str, Any]

DRAWS = 32
"""Times that a pair draws another image before the rows that it can use are looked for."""


class Pair(TypedDict):
    """One pair, not yet collated."""

    sides: list[Example]
    """Two or three; the second has no images of its own: it shows those of the first."""
    reference: NotRequired[Tensor]
    """float32[sides]: log-probability of each answer before training"""


class PairSet(Dataset[Pair]):
    """Pairs prepared on access; ``images`` gives pixels or cached features of their rows.

    ``other_images`` names for each pair the row whose image the third side shows; None leaves that side out. With
    ``reference`` set, pairs carry the log-probabilities of their answers before training.
    """

    def __init__(self, rows: Sequence[Row], images: ExampleSet, other_images: Sequence[int] | None = None) -> None:
        self.rows = rows
        self.images = images
        self.other_images = other_images
        self.reference: ReferenceScores | None = None
        self._crop_size = images.processor.image_processor.crop_size
        self._prompts = Prompts(images.processor)
        self.side_lengths: list[list[int]] = []
        """Tokens of each side of each pair; known without opening an image."""
        self.labeled: list[list[int]] = []
        """Tokens of the answer of each side."""
        self.names: list[str] = []
        """Hash of images and ids of each pair: its name among the log-probabilities before training."""
        for index in range(len(rows)):
            sides = self._encoded(index, self._stored_tokens)
            self.side_lengths.append([len(ids) for ids, _ in sides])
            self.labeled.append([sum(label != IGNORED for label in labels) for _, labels in sides])
            self.names.append(self._name(index, [ids for ids, _ in sides]))

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longest side of each pair."""
        return [max(one) for one in self.side_lengths]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Pair:
        shown: dict[int, tuple[dict[str, Any], list[int]]] = {}

        def tokens_of(row: int) -> list[int]:
            if row not in shown:
                shown[row] = self.images.images(self.rows[row])
            return shown[row][1]

        sides = [
            cast(Example, {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)})
            for ids, labels in self._encoded(index, tokens_of)
        ]
        for side, row in zip(sides, self.shown(index), strict=True):
            if side is not sides[1]:
                side.update(cast(Any, shown[row][0]))
        pair: Pair = {"sides": sides}
        return {**pair, "reference": self.reference.read(self.names[index])} if self.reference else pair

    def shown(self, index: int) -> list[int]:
        """The row whose images each side shows."""
        return [index, index] if self.other_images is None else [index, index, self.other_images[index]]

    def _encoded(self, index: int, tokens_of: Callable[[int], list[int]]) -> list[tuple[list[int], list[int]]]:
        """Ids and labels of each side."""
        row = self.rows[index]
        shown = self.shown(index)
        answers = [row[CHOSEN], row[REJECTED], row[CHOSEN]][: len(shown)]
        sides = []
        for image, answer in zip(shown, answers, strict=True):
            tokens = tokens_of(image)
            prompt = self._prompts.of(row[PROMPT], len(tokens))
            sides.append(encode_answer(self.images.processor, prompt, answer + TURN_END, tokens))
        return sides

    def _stored_tokens(self, row: int) -> list[int]:
        """Tokens of each image of a row, from the sizes stored in it."""
        return image_token_counts(self.rows[row], self.images.num_crops, self._crop_size)

    def _name(self, index: int, ids: list[list[int]]) -> str:
        images = [[str(one.get(SHA256)) for one in images_of(self.rows[row])] for row in self.shown(index)]
        return hashlib.sha256(json.dumps([images, ids]).encode()).hexdigest()


class PairCollator:
    """Sides of all pairs as one batch of ``collate`` (padded or packed), their images once each."""

    def __init__(self, collate: Callable[[Sequence[Any]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """A batch of P pairs of S sides.

        Returns:
            What ``collate`` returns of P x S examples; image_index int64[images shown]; S as ``sides``; logits_to_keep
            int64[K], the positions that predict a token of any answer; reference float32[P, S] where pairs carry it.
        """
        sides = [side for pair in pairs for side in pair["sides"]]
        index: list[int] = []
        own: range = range(0)
        for side in sides:
            if "image_sizes" in side:
                own = range(own.stop, own.stop + len(side["image_sizes"]))
            index += own
        references = [pair["reference"] for pair in pairs if "reference" in pair]
        batch = self.collate(sides)
        return {
            **batch,
            "logits_to_keep": predicting_positions(batch["labels"]),
            "image_index": torch.tensor(index),
            "sides": len(pairs[0]["sides"]),
            **({"reference": torch.stack(references)} if references else {}),
        }


def other_images(rows: Sequence[Row], seed: int) -> list[int]:
    """For each pair the row of another product whose chosen answer is another one; drawn, the same in every epoch.

    All pairs draw at once, again and again where a row cannot be used, at last from the rows that can: the time grows
    with the rows, also where nearly all are one product or have one answer.

    DataError where a pair has no such row.
    """
    groups = _codes([str(row.get(GROUP)) for row in rows])
    answers = _codes([row[CHOSEN] for row in rows])
    rng = np.random.default_rng(named_seed(seed, "other-images"))
    found = np.full(len(rows), -1)

    def draw(pairs: NDArray[np.int64], among: NDArray[np.int64]) -> None:
        for _ in range(DRAWS if len(among) else 0):
            others = among[rng.integers(len(among), size=len(pairs))]
            usable = (groups[others] != groups[pairs]) & (answers[others] != answers[pairs])
            found[pairs[usable]] = others[usable]
            pairs = pairs[~usable]

    draw(np.arange(len(rows)), np.arange(len(rows)))
    for codes in (groups, answers):  # who is of the largest group draws outside it; so with the answers
        largest = np.bincount(codes).argmax()
        draw(np.flatnonzero((found < 0) & (codes == largest)), np.flatnonzero(codes != largest))
    usable_by_key: dict[tuple[int, int], NDArray[np.int64]] = {}
    for index in np.flatnonzero(found < 0).tolist():
        key = (int(groups[index]), int(answers[index]))
        if key not in usable_by_key:
            usable_by_key[key] = np.flatnonzero((groups != key[0]) & (answers != key[1]))
        usable = usable_by_key[key]
        if not len(usable):
            answer = rows[index][CHOSEN]
            raise DataError(
                f"preference.image_weight needs another product's image for each pair, and all {len(rows)} pairs are "
                f"of one product or have the answer {answer[:40]!r}; set preference.image_weight to 0"
            )
        found[index] = usable[rng.integers(len(usable))]
    return [int(one) for one in found]


def _codes(values: Sequence[str]) -> NDArray[np.int64]:
    """Each value's number among the different ones, int64[n], by first appearance."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], dtype=np.int64)
