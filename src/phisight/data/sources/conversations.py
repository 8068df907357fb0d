"""LLaVA-style conversations: a JSON list of ``{"id", "image", "conversations": [{"from", "value"}, ...]}``.

Every question with its answer is a row (columns id, image, turn, question, answer). A data set asks one question, so a
build keeps the rows that ask the task's prompt and names the others in the rejects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.errors import SourceError
from phisight.data.sources.base import SourceBatch
from phisight.data.sources.tables import batches_of_records, file_description

QUESTION, ANSWER = "question", "answer"


class ConversationSource:
    """One JSON file of conversations."""

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("image", pa.string()),
            ("turn", pa.int64()),
            (QUESTION, pa.string()),
            (ANSWER, pa.string()),
        ]
    )
    image_column: str | None = "image"
    key_column: str | None = "id"
    typed = True

    def __init__(self, path: Path) -> None:
        self.root: Path | None = path.parent
        self.description: dict[str, Any] = file_description("conversations", path)
        try:
            self._entries = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError(f"{path} is no JSON: {error}; one object a line is called .jsonl") from error
        if not isinstance(self._entries, list) or not self._entries:
            raise SourceError(f"{path} must be a JSON list of conversations, with id, image and conversations")

    def questions(self) -> Counter[str]:
        """How often each question is asked."""
        return Counter(row[QUESTION] for row in self._rows() if isinstance(row, dict))

    def count(self) -> int | None:
        """Questions."""
        return sum(1 for _ in self._rows())

    def batches(self) -> Iterator[SourceBatch]:
        """All rows, in file order."""
        yield from batches_of_records(self._rows(), self.schema)

    def _rows(self) -> Iterator[dict[str, Any] | str]:
        for number, entry in enumerate(self._entries, start=1):
            yield from _turns(number, entry)


def _turns(number: int, entry: Any) -> Iterator[dict[str, Any] | str]:
    """The questions and answers of one conversation, or the reason why it is none."""
    talk = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(talk, list) or not all(isinstance(part, dict) for part in talk):
        yield "no conversation: an object with a list called conversations is due"
        return
    speakers = [str(part.get("from", "")).lower() for part in talk]
    asked, answered = ("human", "user"), ("gpt", "assistant")
    if len(talk) < 2 or any(speaker not in (asked, answered)[at % 2] for at, speaker in enumerate(speakers)):
        yield f"questions and answers do not take turns ({', '.join(speakers)[:80]})"
        return
    for turn, (question, answer) in enumerate(zip(talk[: len(talk) // 2 * 2 : 2], talk[1::2], strict=True), start=1):
        yield {
            "id": str(entry.get("id") or number),
            "image": entry.get("image") if isinstance(entry.get("image"), str) else None,
            "turn": turn,
            QUESTION: " ".join(str(question.get("value", "")).replace("<image>", " ").split()),
            ANSWER: str(answer.get("value", "")),
        }
    if len(talk) % 2:
        yield "the last question has no answer"
