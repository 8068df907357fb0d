"""A vocabulary as a tree of bytes: tokens that begin alike share the way to where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENDS = -1
"""Key of a node beside its bytes: the tokens that end there."""


def prefix_tree(tokens: Mapping[int, bytes]) -> dict[int, Any]:
    """Nodes by byte, from what each token adds to a text."""
    root: dict[int, Any] = {}
    for token, text in tokens.items():
        node = root
        for byte in text:
            node = node.setdefault(byte, {})
        node.setdefault(ENDS, []).append(token)
    return root
