"""Where a language model is asked: the token at t is predicted from the hidden state at t - 1."""

from __future__ import annotations

from torch import Tensor

IGNORED = -100
"""Label of a token that does not count in the loss."""


def labelled_places(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of labels int64[B, T]: places bool[B, T-1] whose next label counts, and those labels int64[labelled]."""
    following = labels[:, 1:]
    places = following != IGNORED
    return places, following[places]
