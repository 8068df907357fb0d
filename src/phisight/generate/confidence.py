"""How sure the model is of each field: the probability of the tokens that spell its value, and of the one behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from phisight.core.task import Task


def field_confidences(
    task: Task, text: str, pieces: Sequence[bytes], log_probabilities: Sequence[float]
) -> dict[str, float] | None:
    """Sequence probability of each field of an answer, 0 to 1; None where the answer is not in the task's form.

    Args:
        task: Whose fields are looked for.
        text: The answer as the model wrote it.
        pieces: Bytes of each of its tokens, empty for special ones.
        log_probabilities: Natural logarithm of each token's probability.
    """
    spans, start = task.spans(text), b"".join(pieces).find(text.encode())
    if spans is None or start < 0:
        return None
    ends = _ends(pieces)
    found: dict[str, float] = {}
    for name, (first, last) in spans.items():
        low, high = (start + len(text[:place].encode()) for place in (first, last))
        begin = next((token for token, end in enumerate(ends) if end > low), len(ends))
        stop = next((token for token, end in enumerate(ends) if end > high), len(ends) - 1)
        total = sum(log_probabilities[begin : stop + 1])
        found[name] = 0.0 if math.isnan(total) else math.exp(min(0.0, total))
    return found


def overall(confidences: Mapping[str, float]) -> float:
    """Confidence in a whole answer: that of its least certain field."""
    return min(confidences.values(), default=0.0)


def _ends(pieces: Sequence[bytes]) -> list[int]:
    """The byte behind each token."""
    ends, place = [], 0
    for piece in pieces:
        place += len(piece)
        ends.append(place)
    return ends
