"""A run's own wrong answers to pairs: what the model says when it is asked several times, against the truth.

    training rows --k sampled answers each--> answers.jsonl --compared with the truth, field by field--> pairs.jsonl

A rejected answer is the true one with one field as the model got it wrong, so a pair differs in what was wrong; an
answer that cannot be read is rejected whole. ``answers.jsonl`` is a journal: a stopped sampling continues after its
last whole line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import GROUP
from phisight.core.errors import ImageError, RunError, SettingsError, TaskError, UnreadableFileError
from phisight.core.read_files import parse_json, read_object
from phisight.core.run_folder import write_json, write_text_atomically
from phisight.core.seeding import named_seed
from phisight.core.task import FieldValue, Task, special_tokens_in
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import PAIRS
from phisight.evaluate import EvalRow, read_rows
from phisight.export.subject import data_of_run
from phisight.generate import Request
from phisight.generate.decoding.sampling import Decoding
from phisight.generate.scheduler import Scheduler
from phisight.workflows.load import load_run, task_of_run
from phisight.workflows.predict import is_right

ANSWERS = "answers.jsonl"
"""One line for each row that was answered: its number and what the model said."""
SUMMARY = "pairs.json"
"""Settings and counts."""
UNREAD = "unread"
"""Kind of a pair whose rejected answer is not in the task's form."""
WHOLE = "{answer}"
"""Stands for the field of such a pair; no field can have braces in its name."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    samples: int = 8
    """Answers to each row."""
    temperature: float = 1.0
    seed: int = 0
    rows: int | None = None
    """Training rows to ask about, drawn by key and seed; None means all."""


@dataclass(frozen=True)
class MadePairs:
    """What became of the rows."""

    rows: int
    """Training rows that were asked about."""
    always_right: int
    """Rows whose every answer was right: they give no pair."""
    failed: int
    """Rows whose image could not be read."""
    pairs: dict[str, int]
    """Pairs by ``field (kind)``, those of unread answers as ``{answer} (unread)``."""
    unwritable: int
    """Wrong values that do not fit into the answer's template."""


def make_pairs(
    run: Path,
    out: Path,
    sampling: Sampling,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    notify: Callable[[str], None] = lambda _line: None,
) -> MadePairs:
    """Sample answers of a run's best model to its training rows and write the pairs they give into ``out``.

    The answers are those of the model's text, whatever strategy decides its numbers. A folder that was begun with the
    same settings continues.

    Raises:
        SettingsError: Settings that draw nothing, or a folder begun with other ones.
        RunError: No pair could be made.
    """
    if sampling.samples < 1 or sampling.temperature <= 0:
        raise SettingsError(
            f"--samples {sampling.samples} and --temperature {sampling.temperature:g} must be above 0: greedy answers "
            "are all the same"
        )
    model, processor, recipe = load_run(run)
    folder = DatasetFolder.open(data_of_run(run, recipe))
    task = task_of_run(run, recipe)
    found = read_rows(folder.path, task, "train", limit=sampling.rows, seed=sampling.seed, images=recipe.data.images)
    _begin(out, run, folder, sampling)
    journal = _Journal(out / ANSWERS, len(found.rows), sampling.samples)
    if journal.done:
        notify(f"Continuing {out}: {len(journal.done)} of {len(found.rows)} rows are answered.")
    scheduler = Scheduler(
        model,
        processor,
        max_sequences=recipe.evaluate.batch_size,
        max_new_tokens=recipe.evaluate.max_new_tokens,
    )
    _sample(scheduler, task, found.rows, sampling, journal, progress)
    made = _write_pairs(out, folder, task, found.rows, journal)
    summary = read_object(out / SUMMARY)
    write_json(out / SUMMARY, {**summary, "counts": asdict(made)})
    if not made.pairs:
        raise RunError(
            f"none of {made.rows} rows gives a pair ({made.always_right} always right, {made.failed} unreadable); "
            "raise --samples or --temperature, or ask about more rows"
        )
    return made


def _begin(out: Path, run: Path, folder: DatasetFolder, sampling: Sampling) -> None:
    """Note the settings; SettingsError where the folder was begun with other ones."""
    settings = {"run": str(run), "data": str(folder.path), **asdict(sampling)}
    path = out / SUMMARY
    if path.is_file():
        before = read_object(path).get("settings")
        if before != settings:
            raise SettingsError(f"{out} was begun with {before}, now it is {settings}; choose another --out")
        return
    if out.is_dir() and any(out.iterdir()):
        raise SettingsError(f"{out} is not empty and holds no {SUMMARY}; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, {"settings": settings})


class _Journal:
    """Answers by row, on disk as soon as a row has all of its own; None stands for an image that failed."""

    def __init__(self, path: Path, rows: int, samples: int) -> None:
        self._path, self._samples = path, samples
        self._open: dict[int, list[str]] = {}
        self.done: dict[int, list[str] | None] = {}
        for line in path.read_bytes().splitlines() if path.is_file() else []:
            try:
                row, answers = parse_json(line, path)
            except (UnreadableFileError, ValueError, TypeError):
                continue  # the line that was being written when it was stopped
            if isinstance(row, int) and row < rows:
                self.done[row] = answers
        write_text_atomically(path, "".join(self._line(row) for row in self.done))

    def add(self, row: int, answer: str | None) -> None:
        """One more answer to a row; None where its image failed."""
        if row in self.done:
            return
        answers = self._open.setdefault(row, [])
        if answer is not None:
            answers.append(answer)
        if answer is None or len(answers) == self._samples:
            self.done[row] = None if answer is None else sorted(answers)
            self._open.pop(row)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(self._line(row))

    def _line(self, row: int) -> str:
        return json.dumps([row, self.done[row]], ensure_ascii=False) + "\n"


def _sample(
    scheduler: Scheduler,
    task: Task,
    rows: Sequence[EvalRow],
    sampling: Sampling,
    journal: _Journal,
    progress: Callable[[int, int], None],
) -> None:
    """Answer the rows that the journal lacks; request ``row * samples + n`` is the n-th answer to a row."""
    k = sampling.samples

    def requests() -> Iterator[tuple[int, Request]]:
        for row, one in enumerate(rows):
            if row not in journal.done:
                for number in range(k):
                    yield row * k + number, Request(task.prompt, one.recorded)

    def decoding_of(index: int) -> Decoding:
        seed = named_seed(sampling.seed, "pairs", rows[index // k].key, rows[index // k].content, index % k)
        return Decoding(scheduler.max_new_tokens, temperature=sampling.temperature, seed=seed % 2**32)

    def failed(index: int, _error: ImageError) -> None:
        journal.add(index // k, None)

    for completion in scheduler.run(requests(), on_failure=failed, decoding_of=decoding_of):
        # The beginning of an answer that was cut is none: taught as one, it would be taught to end there.
        journal.add(completion.index // k, completion.written if completion.unread is None else "")
        progress(len(journal.done), len(rows))


def _write_pairs(out: Path, folder: DatasetFolder, task: Task, rows: Sequence[EvalRow], journal: _Journal) -> MadePairs:
    """Write ``pairs.jsonl``: for each row and field the wrong value that the model gave most often."""
    lines: list[str] = []
    counts, always_right, failed, unwritable = Counter[str](), 0, 0, 0
    for index, row in enumerate(rows):
        answers = journal.done[index]
        if answers is None:
            failed += 1
            continue
        rejected, lost = rejected_answers(task, row, answers)
        unwritable += lost
        always_right += all(wrong_values(task, row, answer) == {} for answer in answers)
        for field, (text, times) in rejected.items():
            kind = str(task.fields[field].kind) if field in task.fields else UNREAD
            counts[f"{field} ({kind})"] += 1
            names = [path.relative_to(folder.path).as_posix() for path in row.images]
            pair = {"images": names, "prompt": task.prompt, "chosen": row.expected, "rejected": text}
            notes = {GROUP: row.group, "field": field, "kind": kind, "times": times}
            lines.append(json.dumps({**pair, **notes}, ensure_ascii=False) + "\n")
    write_text_atomically(out / PAIRS, "".join(lines))
    return MadePairs(len(rows), always_right, failed, dict(sorted(counts.items())), unwritable)


def wrong_values(task: Task, row: EvalRow, answer: str) -> dict[str, FieldValue] | None:
    """The fields that an answer has wrong, with its values; None where it cannot be read."""
    values = task.parse(answer).values
    if values is None:
        return None
    return {name: value for name, value in values.items() if not is_right(task, name, row.truth[name], value)}


def rejected_answers(task: Task, row: EvalRow, answers: Sequence[str]) -> tuple[dict[str, tuple[str, int]], int]:
    """By field the answer that is wrong in it alone, and how often the model gave that value; then unwritable values.

    Under ``WHOLE`` stands the most frequent answer that is not in the task's form, where it can be trained on.
    """
    wrong: dict[str, Counter[Any]] = {}
    for answer in answers:
        found, text = wrong_values(task, row, answer), answer.strip()
        if found is None and text and not special_tokens_in(text):
            wrong.setdefault(WHOLE, Counter())[text] += 1
        for name, value in (found or {}).items():
            wrong.setdefault(name, Counter())[value] += 1
    rejected, unwritable = {}, 0
    for name, counted in wrong.items():
        value, times = min(counted.items(), key=lambda one: (-one[1], str(one[0])))
        try:
            text = value if name == WHOLE else task.render({**row.truth, name: value})
        except TaskError:
            unwritable += 1
            continue
        if text != row.expected:
            rejected[name] = (text, times)
    return rejected, unwritable
