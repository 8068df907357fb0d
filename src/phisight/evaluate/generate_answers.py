"""Rows -> answers -> parsed fields. Answers are generated, never read off the labels."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from phisight.core.errors import EvaluationError, RunError
from phisight.core.task import Task
from phisight.data.images.decode import DECODER
from phisight.data.images.recorded import require_unchanged
from phisight.evaluate.image_conditions import Images, images_shown, shown_rows
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.rows import EvalRow
from phisight.generate import Generation, Predictor, Request
from phisight.generate.confidence import field_confidences
from phisight.generate.requests import cut_at
from phisight.track.jsonl import drop_torn_line, read_lines

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (rows finished, rows in all)."""


def evaluate(
    predictor: Predictor,
    rows: Sequence[EvalRow],
    task: Task,
    *,
    images: Images = "real",
    seed: int = 0,
    answer_log: Path | None = None,
    identity: str = "",
    progress: Progress | None = None,
    medians: Mapping[str, float] | None = None,
    grids: Sequence[Hashable] | None = None,
) -> Predictions:
    """Ask the model about every row.

    Args:
        predictor: Model and processor.
        rows: What to ask about; see ``read_rows``.
        task: Prompt, template and fields.
        images: Which image a row is shown.
        seed: Decides which images are swapped.
        answer_log: File of finished answers; a second call with the same arguments continues from there.
        identity: Names the model (checkpoint, its hash), so that answers of another one are not taken over.
        progress: Called with rows finished and rows in all.
        medians: Median of each number field over the training rows; see ``Predictions.typical``.
        grids: The crops that the model makes of each row's images; see ``shown_rows``.

    An answer that was cut at ``max_new_tokens``, or whose number could not be decided, is not read. An image that
    cannot be used costs its own row, which then counts as unanswered with that reason. Answers to ``real`` images by
    continuous batching bring the confidence in each field.

    Raises:
        ChangedImageError: An image is not the one that the table records; answers of either would pass for the other's.
    """
    if not rows:
        raise EvaluationError("there are no rows to evaluate; choose a split that has some")
    shown = shown_rows(rows, task, images, seed, grids)
    require_unchanged(one for row in rows for one in row.recorded)
    fingerprint = _fingerprint(predictor, rows, task, shown, images, identity) if answer_log is not None else ""
    with AnswerLog(answer_log, fingerprint, task.names) as done:
        todo = [row for row in range(len(rows)) if row not in done.answers and row not in done.failures]

        def report() -> None:
            if progress is not None:
                progress(len(done.answers) + len(done.failures), len(rows))

        def fail(index: int, error: Exception) -> None:
            done.fail(todo[index], f"image: {error}")
            report()

        report()
        requests = (Request(task.prompt, images_shown(rows, row, shown[row])) for row in todo)
        for index, generation in predictor.generations(requests, on_failure=fail):
            done.answer(todo[index], generation, _confidence(task, generation) if images == "real" else None)
            report()
    return Predictions.of(
        task,
        rows,
        images,
        shown,
        done.answers,
        done.failures,
        unread=done.unread,
        written=done.written,
        medians=medians,
        confidences=done.confidences,
    )


def _confidence(task: Task, generation: Generation) -> dict[str, float] | None:
    """Sequence probability of each field; None where the answer is not in the task's form, or none was noted."""
    if generation.log_probabilities is None:
        return None
    return field_confidences(task, generation.written, generation.pieces, generation.log_probabilities)


def _fingerprint(
    predictor: Predictor,
    rows: Sequence[EvalRow],
    task: Task,
    shown: Sequence[int | None],
    images: Images,
    identity: str,
) -> str:
    digest = hashlib.sha256()
    settings = [task.model_dump(), images, shown, identity, predictor.max_new_tokens]
    settings += [predictor.constrained, predictor.numbers, DECODER]
    settings += ["confidence"] if images == "real" else []  # logs of earlier versions do not have it
    digest.update(json.dumps(settings).encode())
    for row in rows:
        contents = [one.content() for one in row.recorded]
        truth = task.as_json(row.truth)
        digest.update(json.dumps([row.key, list(map(str, row.images)), contents, truth]).encode())
    return digest.hexdigest()


class AnswerLog:
    """Answers on disk as soon as they exist, one JSON line each, so that a killed evaluation can continue.

    line 1      {"evaluation": fingerprint of task, rows, images and model}
    then        {"row": 17, "answer": "Product: ..."}   or   {"row": 18, "failed": "why"}
                with "written" where a number strategy changed the text, "unread" (why) where nothing is to be read
                ("cut" in files of earlier versions: tokens of an answer without an end token), and "confidence", the
                sequence probability of each field, where it is known

    A context manager; ``answers`` and ``failures`` by row index hold what an earlier process had finished. ``fields``
    are those that a line's confidence is of.
    """

    def __init__(self, path: Path | None, fingerprint: str, fields: Collection[str] = ()) -> None:
        self.answers: dict[int, str] = {}
        self.failures: dict[int, str] = {}
        self.written: dict[int, str] = {}
        self.unread: dict[int, str] = {}
        self.confidences: dict[int, Mapping[str, float]] = {}
        self._path = path
        self._fields = set(fields)
        self._file: Any = None
        if path is not None:
            self._open(path, fingerprint)

    def _open(self, path: Path, fingerprint: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_line(path)
        lines = list(read_lines(path))
        fits = bool(lines) and lines[0].get("evaluation") == fingerprint
        for line in lines[1:] if fits else []:
            try:
                self._restore(line)
            except (KeyError, TypeError, ValueError) as error:
                reason = f"holds a damaged line ({str(line)[:80]!r}); take it out, or delete the file"
                raise RunError(f"{path} {reason}") from error
        if fits:
            _LOG.info("%s holds %d finished rows; continuing from there", path, len(lines) - 1)
        elif lines:
            _LOG.info("%s belongs to another model, task, split or version; starting over", path)
        self._file = path.open("a" if fits else "w", encoding="utf-8")
        if not fits:
            self._write({"evaluation": fingerprint})

    def _restore(self, line: Mapping[str, Any]) -> None:
        """Take a line of an earlier process; KeyError, TypeError or ValueError for one that none wrote."""
        texts = [line[name] for name in ("answer", "failed", "written") if name in line]
        if type(line["row"]) is not int or not texts or not all(isinstance(text, str) for text in texts):
            raise TypeError("row and texts are due")
        sure = line.get("confidence", dict.fromkeys(self._fields, 0.0))
        if not isinstance(sure, dict) or set(sure) != self._fields:
            raise TypeError("a confidence of each field is due")
        if not all(type(one) is float and 0 <= one <= 1 for one in sure.values()):
            raise ValueError("confidences are probabilities")
        if "failed" in line:
            self.failures[line["row"]] = line["failed"]
        else:
            self._take(line)

    def answer(self, row: int, generation: Generation, confidence: Mapping[str, float] | None = None) -> None:
        """Store an answer, and how sure the model is of each of its fields."""
        line: dict[str, Any] = {"row": row, "answer": generation.text}
        if generation.written != generation.text:
            line["written"] = generation.written
        if generation.unread is not None:
            line["unread"] = generation.unread
        if confidence is not None:
            line["confidence"] = confidence
        self._take(line)
        self._write(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        row = line["row"]
        self.answers[row] = line["answer"]
        if "written" in line:
            self.written[row] = line["written"]
        if "unread" in line or "cut" in line:
            self.unread[row] = line.get("unread") or cut_at(line["cut"])
        if "confidence" in line:
            self.confidences[row] = line["confidence"]

    def fail(self, row: int, reason: str) -> None:
        """Store why a row has no answer."""
        self.failures[row] = reason
        self._write({"row": row, "failed": reason})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
