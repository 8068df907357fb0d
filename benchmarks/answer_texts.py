"""Answers to the same image by two programs, where a number head decides the numbers of one of them."""

from __future__ import annotations

import re


def without_numbers(text: str) -> str:
    """An answer with a mark for each number."""
    return re.sub(r"\d+(\.\d+)?", "#", text)
