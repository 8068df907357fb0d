"""Conversations about images, as fine-tuning tools write them.

    LLaVA, ShareGPT   {"id", "image", "conversations": [{"from": "human", "value": "<image>\\nWhat?"}, ...]}
    OpenAI            {"messages": [{"role": "user", "content": [{"type": "text", ...}, {"type": "image_url", ...}]}]}
    TRL               {"images": [...], "messages": [...]}

Every question with its answer is a row (columns id, image, turn, question, answer). A data set asks one question, so a
build keeps the rows that ask the task's prompt and names the others in the rejects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from phisight.core.errors import SourceError
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.tables import batches_of_records, file_description

QUESTION, ANSWER = "question", "answer"
TALKS = ("conversations", "messages")
"""Names of the list that holds the turns."""
_ASKED, _ANSWERED, _SYSTEM = ("human", "user"), ("gpt", "assistant", "model", "chatbot"), ("system", "developer")
_IMAGE_TAGS = ("<image>", "<|image|>", "<|image_1|>", "<|vision_start|><|image_pad|><|vision_end|>")


class ConversationSource(Source):
    """A JSON or JSON Lines file of conversations."""

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

    def __init__(self, path: Path, entries: list[Any]) -> None:
        self.root: Path | None = path.parent
        self.description: dict[str, Any] = file_description("conversations", path)
        self._entries = entries
        if not entries:
            raise SourceError(f"{path} must be a JSON list of conversations, with id, image and conversations")
        if not any(isinstance(row, dict) for row in self._rows()):
            reason = next(self._rows(), "no turns")
            raise SourceError(f"{path}: none of {len(entries)} conversations can be used; the first one: {reason}")

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


class _Part(NamedTuple):
    """One turn: who speaks, the text, the images in it."""

    speaker: str
    text: str
    images: list[str]


def _turns(number: int, entry: Any) -> Iterator[dict[str, Any] | str]:
    """The questions and answers of one conversation, or the reason why it is none."""
    named = [entry.get(name) for name in TALKS] if isinstance(entry, dict) else []
    talk = next((one for one in named if isinstance(one, list)), None)
    if talk is None or not all(isinstance(part, dict) for part in talk):
        yield "no conversation: an object with a list called conversations or messages is due"
        return
    parts = [_part(part) for part in talk]
    system = " ".join(part.text for part in parts if part.speaker in _SYSTEM)
    parts = [part for part in parts if part.speaker not in _SYSTEM]
    if len(parts) < 2 or any(part.speaker not in (_ASKED, _ANSWERED)[at % 2] for at, part in enumerate(parts)):
        yield f"questions and answers do not take turns ({', '.join(part.speaker for part in parts)[:80]})"
        return
    images = _images(entry) + [image for part in parts for image in part.images]
    if len(images) > 1:
        yield f"{len(images)} images in one conversation; one is due"
        return
    key = entry.get("id")
    for turn, (asked, answered) in enumerate(zip(parts[: len(parts) // 2 * 2 : 2], parts[1::2], strict=True), start=1):
        yield {
            "id": str(number if key is None or key == "" else key),
            "image": images[0] if images else None,
            "turn": turn,
            QUESTION: " ".join(f"{system} {asked.text}".split()),
            ANSWER: answered.text,
        }
    if len(parts) % 2:
        yield "the last question has no answer"


def _part(turn: dict[str, Any]) -> _Part:
    speaker = str(turn.get("from", turn.get("role", ""))).lower()
    content = turn.get("value", turn.get("content", ""))
    pieces = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts, images = [], []
    for piece in pieces:
        if not isinstance(piece, dict):
            texts.append(str(piece))
        elif piece.get("type") == "text":
            texts.append(str(piece.get("text") or ""))
        else:
            images += _images(piece)
    text = " ".join(texts)
    if speaker in _ASKED:
        for tag in _IMAGE_TAGS:
            text = text.replace(tag, " ")
    return _Part(speaker, text, images)


def _images(holder: dict[str, Any]) -> list[str]:
    """Addresses or paths under the usual names, each a text, an object with url or path, or a list of these."""
    found = []
    for name in ("image", "images", "image_url", "image_path", "url", "path"):
        value = holder.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                found += _images(one)
            elif isinstance(one, str) and one:
                found.append(one)
    return found
