"""At which token of an answer its numbers begin."""

from __future__ import annotations

from collections.abc import Sequence

from phisight.core.task import Task


def number_places(task: Task, pieces: Sequence[bytes], answer: str) -> dict[str, int] | None:
    """For each number field the token that holds its first digit, counted from the answer's first token.

    Args:
        task: Whose number fields are looked for.
        pieces: Bytes of the answer's tokens, empty for special ones.
        answer: The same as text; a tokenizer may put a space before it.

    None where the text is not in the task's form or not what the tokens spell. A field without a value begins at the
    token behind it.
    """
    spans, start = task.spans(answer), b"".join(pieces).find(answer.encode())
    if spans is None or start < 0:
        return None
    found = {}
    for name in task.of_kind("number"):
        left, place = start + len(answer[: spans[name][0]].encode()), 0
        while place < len(pieces) and left >= len(pieces[place]):
            left -= len(pieces[place])
            place += 1
        found[name] = place
    return found
