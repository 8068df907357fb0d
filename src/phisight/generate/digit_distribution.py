"""The model's distribution over the digit strings that may stand at one position of an answer.

prompt + answer up to the number --one pass--> cache
  strings of all answers side by side, one digit a step; those that became improbable are dropped
  string ends where the model would write anything but a digit  -> (number, probability)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PIECE = re.compile(rb" ?-?[0-9.]*")
_STAGES = (b"", b"-", b"1", b"1.", b"1.1")
"""One string for each stage of a number: nothing, a sign, whole digits, a point behind them, decimals."""
_NUMBERS = (2, 4)
_LIKE_A_NUMBER = re.compile(rb"[0-9.-]*")
_POINT = 3
_BEGINNING = re.compile(rb"-?\d*|-?\d+\.\d*")
MOST_STEPS = 16
"""Tokens of a number at most."""


class DigitSearch:
    """Follows the probable digit strings of many answers at once, with a KV cache.

    Args:
        pieces: Bytes of each token.
        pad: Id that fills up rows on the left.
        width: Strings followed at once, at most, for each answer.
        floor: Probability under which a string is dropped.
    """

    def __init__(self, pieces: Mapping[int, bytes], pad: int, width: int, floor: float) -> None:
        self._pad, self._width, self._floor = pad, width, floor
        self._ids = [token for token, piece in pieces.items() if piece and _PIECE.fullmatch(piece)]
        self._pieces = [pieces[token] for token in self._ids]
        self._goes_on = np.asarray([[_continues(stage, piece) for piece in self._pieces] for stage in _STAGES])

    def strings(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        ids: Tensor,
        cuts: Mapping[int, int],
        *,
        image_counts: Sequence[int] | None = None,
        behind: str = "",
    ) -> dict[int, dict[float, float]]:
        """Number -> probability for each row of ``cuts``; they add up to less than 1 where strings were dropped.

        Args:
            inputs: Tensors of the prompts, left padded.
            ids: int64[B, P + new], prompts and answers.
            cuts: Row -> the column of ``ids`` at which its number begins.
            image_counts: Images of each row; None means one each.
            behind: The text that follows the number. It ends the number also where it starts like a part of one
                (a point, a minus, a digit, a space).
        """
        given = self._prefixes(inputs, ids, cuts, image_counts or [1] * len(ids))
        following = _LIKE_A_NUMBER.match(behind.encode())
        ending = following[0] if following else b""
        rows = list(cuts)
        found: dict[int, dict[float, float]] = {row: {} for row in rows}
        owner, text, chance = np.asarray(rows), [b""] * len(rows), np.zeros(len(rows))
        step = _Stepper(model, given)
        for _ in range(MOST_STEPS):
            gained = step.log_probabilities[:, self._ids].double().cpu().numpy()
            stages = np.asarray([_stage(string) for string in text])
            followed = self._goes_on[stages]
            ends = 1.0 - np.where(followed, np.exp(gained), 0.0).sum(axis=1)
            for index, string in enumerate(text):
                number = _number_before(ending, string) if ends[index] > 0 else None
                if number is not None:
                    numbers = found[int(owner[index])]
                    numbers[number] = numbers.get(number, 0.0) + float(np.exp(chance[index]) * ends[index])
            parents, tokens = self._followed(owner, followed, chance[:, None] + gained)
            if not len(parents):
                break
            chance = (chance[:, None] + gained)[parents, tokens]
            text = [
                (text[parent] + self._pieces[token]).strip(b" ") for parent, token in zip(parents, tokens, strict=True)
            ]
            owner = owner[parents]
            step.extend(parents, np.asarray(self._ids)[tokens])
        return found

    def _followed(
        self, owner: NDArray[Any], goes_on: NDArray[np.bool_], chance: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of log probabilities [F, N] the (string, token) pairs to follow: probable, the first ones of each."""
        usable = (chance >= np.log(self._floor)) & goes_on
        parents, tokens = np.nonzero(usable)
        order = np.lexsort((-chance[parents, tokens], owner[parents]))
        parents, tokens = parents[order], tokens[order]
        _, starts, counts = np.unique(owner[parents], return_index=True, return_counts=True)
        rank = np.arange(len(parents)) - np.repeat(starts, counts)
        return parents[rank < self._width], tokens[rank < self._width]

    def _prefixes(
        self, inputs: Mapping[str, Tensor], ids: Tensor, cuts: Mapping[int, int], image_counts: Sequence[int]
    ) -> dict[str, Tensor]:
        """Tensors of prompts and answers up to the number, left padded, for the rows of ``cuts``."""
        first = np.concatenate([[0], np.cumsum(image_counts)])
        images = [image for row in cuts for image in range(first[row], first[row + 1])]
        rows = torch.tensor(images, device=ids.device, dtype=torch.int64)
        width, prompt = max(cuts.values()), inputs["input_ids"].shape[1]
        mask = torch.cat([inputs["attention_mask"], torch.ones_like(ids[:, prompt:])], dim=1)
        shifted = torch.full((len(cuts), width), self._pad, dtype=ids.dtype, device=ids.device)
        seen = torch.zeros_like(shifted)
        for index, (row, cut) in enumerate(cuts.items()):
            shifted[index, width - cut :], seen[index, width - cut :] = ids[row, :cut], mask[row, :cut]
        image_inputs = {
            name: value[rows] for name, value in inputs.items() if name not in ("input_ids", "attention_mask")
        }
        return {**image_inputs, "input_ids": shifted, "attention_mask": seen}


def _stage(string: bytes) -> int:
    """The stage of _STAGES that a string is in."""
    digits = string.removeprefix(b"-")
    if not digits:
        return 1 if string else 0
    whole, point, decimals = digits.partition(b".")
    return 2 if whole and not point else 4 if decimals else _POINT


def _number_before(ending: bytes, string: bytes) -> float | None:
    """The number of a string that ends here, without what it already holds of the text behind; None where it is none.

    "12." before ". x" and "1200" before "00 x" are 12.
    """
    for held in range(len(ending) + 1):
        number = string[: len(string) - held]
        complete = held == len(ending) or not _continues(string, ending[held : held + 1])
        if string.endswith(ending[:held]) and complete and _stage(number) in _NUMBERS:
            return float(number)
    return None


def _continues(string: bytes, piece: bytes) -> bool:
    """Whether a piece makes a longer beginning of a number; a space only stands before one."""
    added = piece if string else piece.removeprefix(b" ")
    return bool(added or not string) and _BEGINNING.fullmatch(string + added) is not None


class _Stepper:
    """Strings side by side in one cache; ``log_probabilities`` float[F, V] are of each one's next token."""

    def __init__(self, model: Any, inputs: dict[str, Tensor]) -> None:
        self._model = model
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._mask = inputs["attention_mask"]
        options = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._run({**inputs, **options}, None, self._mask.shape[1])

    def extend(self, parents: NDArray[Any], tokens: NDArray[Any]) -> None:
        """String f becomes string ``parents[f]`` with the token ``tokens[f]`` behind it."""
        indices = torch.as_tensor(parents, device=self._mask.device)
        self._cache.batch_select_indices(indices)
        mask = self._mask[indices]
        self._mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        ids = torch.as_tensor(tokens, device=self._mask.device)[:, None]
        self._run({"input_ids": ids, "attention_mask": self._mask}, self._cache, 1)

    def _run(self, inputs: dict[str, Any], cache: Any, new: int) -> None:
        if self._takes_positions:
            inputs["position_ids"] = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -new:]
        outputs = self._model(**inputs, past_key_values=cache, use_cache=True)
        self._cache = outputs.past_key_values
        self.log_probabilities = outputs.logits[:, -1].float().log_softmax(-1)
