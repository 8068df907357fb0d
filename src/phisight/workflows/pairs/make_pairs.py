"""A run's own wrong answers to pairs: what the model says when it is asked several times, against the truth.

    training rows --k sampled answers each--> answers.jsonl --compared with the truth, field by field--> pairs.jsonl
    other images  --k sampled answers each--> answers.jsonl --minorities against the majority---------> pairs.jsonl

A rejected answer is the true one with one field as the model got it wrong, so a pair differs in what was wrong; an
answer that cannot be read is rejected whole. ``answers.jsonl`` is a journal: a stopped sampling continues after its
last whole line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from phisight.core.dataset_folder import GROUP
from phisight.core.errors import ImageError, RunError, SettingsError, TaskError, UnreadableFileError
from phisight.core.read_files import parse_json, read_object
from phisight.core.run_folder import write_json, write_text_atomically
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import PAIRS
from phisight.evaluate import EvalRow, read_rows
from phisight.export.subject import data_of_run
from phisight.generate import Request
from phisight.generate.decoding.sampling import Decoding
from phisight.generate.scheduler import Scheduler
from phisight.workflows.load import load_run, task_of_run
from phisight.workflows.pairs.pair_answers import WHOLE, consensus, rejected_answers, wrong_values
from phisight.workflows.pairs.unlabeled_images import UnlabeledImages, copied, unlabeled_images

ANSWERS = "answers.jsonl"
"""One line for each row that was answered: its number and what the model said."""
SUMMARY = "pairs.json"
"""Settings and counts."""
AGREEMENT = 0.7
"""Share of the answers to an image without a truth that must agree."""
UNREAD = "unread"
"""Kind of a pair whose rejected answer is not in the task's form."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    samples: int = 8
    """Answers to each row."""
    temperature: float = 1.0
    seed: int = 0
    rows: int | None = None
    """Training rows to ask about, drawn by key and seed; None means all."""
    images: Path | None = None
    """Folder of images without answers to ask about instead."""


@dataclass(frozen=True)
class MadePairs:
    """What became of the rows."""

    rows: int
    """Training rows, or images, that were asked about."""
    always_right: int
    """Those whose every answer was right, or the same: they give no pair."""
    failed: int
    """Rows whose image could not be read."""
    pairs: dict[str, int]
    """Pairs by ``field (kind)``, those of unread answers as ``{answer} (unread)``."""
    unwritable: int
    """Wrong values that do not fit into the answer's template."""
    undecided: int = 0
    """Images without a truth whose answers agree in no field: they give no pair."""
    held_back: int = 0
    """Images that were not asked about: they are in a split that is not for training."""


def make_pairs(
    run: Path,
    out: Path,
    sampling: Sampling,
    *,
    agreement: float = AGREEMENT,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    notify: Callable[[str], None] = lambda _line: None,
) -> MadePairs:
    """Sample answers of a run's best model to its training rows and write the pairs they give into ``out``.

    The answers are those of the model's text, whatever strategy decides its numbers. A folder that was begun with the
    same settings continues. Of images without a truth, a field's value counts as true where at least the share
    ``agreement`` of the answers give it; another agreement reads the same answers again.

    Raises:
        SettingsError: Settings that draw nothing, or a folder begun with other ones.
        RunError: No pair could be made.
    """
    if sampling.samples < 1 or sampling.temperature <= 0:
        raise SettingsError(
            f"--samples {sampling.samples} and --temperature {sampling.temperature:g} must be above 0: greedy answers "
            "are all the same"
        )
    if not 0.5 < agreement <= 1:
        raise SettingsError(f"--agreement {agreement:g} must be above 0.5, a majority, and at most 1")
    model, processor, recipe = load_run(run)
    folder = DatasetFolder.open(data_of_run(run, recipe))
    task = task_of_run(run, recipe)
    rows, unlabeled = _asked(folder, task, recipe, sampling)
    if unlabeled is not None and unlabeled.held_back + unlabeled.repeated:
        notify(
            f"{unlabeled.held_back} images are left out, which are in the validation or test split of {folder.path}, "
            f"and {unlabeled.repeated} that repeat another one."
        )
    _begin(out, run, folder, sampling, unlabeled)
    journal = _Journal(out / ANSWERS, len(rows), sampling.samples)
    if journal.done:
        notify(f"Continuing {out}: {len(journal.done)} of {len(rows)} rows are answered.")
    scheduler = Scheduler(
        model,
        processor,
        max_sequences=recipe.evaluate.batch_size,
        max_new_tokens=recipe.evaluate.max_new_tokens,
    )
    _sample(scheduler, task, rows, sampling, journal, progress)
    made = _write_pairs(out, folder, task, rows, journal, agreement if unlabeled is not None else None)
    if unlabeled is not None:
        made = replace(made, held_back=unlabeled.held_back)
    summary = read_object(out / SUMMARY)
    write_json(out / SUMMARY, {**summary, "counts": asdict(made)})
    if not made.pairs:
        raise RunError(
            f"none of {made.rows} rows gives a pair ({made.always_right} always right, {made.undecided} undecided, "
            f"{made.failed} unreadable); raise --samples or --temperature, or ask about more rows"
        )
    return made


def _asked(
    folder: DatasetFolder, task: Task, recipe: Recipe, sampling: Sampling
) -> tuple[list[EvalRow], UnlabeledImages | None]:
    """What the model is asked about: rows with their truth, or images without one."""
    if sampling.images is None:
        limit, seed = sampling.rows, sampling.seed
        return read_rows(folder.path, task, "train", limit=limit, seed=seed, images=recipe.data.images).rows, None
    found = unlabeled_images(sampling.images, folder)
    return found.rows[: sampling.rows], found


def _begin(out: Path, run: Path, folder: DatasetFolder, sampling: Sampling, unlabeled: UnlabeledImages | None) -> None:
    """Note the settings; SettingsError where the folder was begun with other ones."""
    asked = {"images": str(sampling.images), "content": unlabeled.fingerprint} if unlabeled is not None else {}
    settings = {"run": str(run), "data": str(folder.path), **asdict(sampling), "images": None, **asked}
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
            texts = answers is None or (isinstance(answers, list) and all(isinstance(one, str) for one in answers))
            if type(row) is int and 0 <= row < rows and texts:
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


def _write_pairs(
    out: Path, folder: DatasetFolder, task: Task, rows: Sequence[EvalRow], journal: _Journal, agreement: float | None
) -> MadePairs:
    """Write ``pairs.jsonl``: for each row and field the wrong value that the model gave most often.

    With ``agreement``, rows have no truth: what most answers say stands for it.
    """
    lines: list[str] = []
    counts, always_right, failed, unwritable, undecided = Counter[str](), 0, 0, 0, 0
    for index, asked in enumerate(rows):
        answers = journal.done[index]
        if answers is None:
            failed += 1
            continue
        row, fields = (asked, None) if agreement is None else _by_majority(task, asked, answers, agreement)
        if row is None:
            undecided += 1
            continue
        rejected, lost = rejected_answers(task, row, answers, fields)
        unwritable += lost
        always_right += all(wrong_values(task, row, answer) == {} for answer in answers)
        for field, (text, times) in rejected.items():
            kind = str(task.fields[field].kind) if field in task.fields else UNREAD
            counts[f"{field} ({kind})"] += 1
            pair = {"images": _names(row, out, folder), "prompt": task.prompt, "chosen": row.expected, "rejected": text}
            notes = {GROUP: row.group, "field": field, "kind": kind, "times": times}
            lines.append(json.dumps({**pair, **notes}, ensure_ascii=False) + "\n")
    write_text_atomically(out / PAIRS, "".join(lines))
    return MadePairs(len(rows), always_right, failed, dict(sorted(counts.items())), unwritable, undecided)


def _by_majority(
    task: Task, row: EvalRow, answers: Sequence[str], agreement: float
) -> tuple[EvalRow | None, frozenset[str]]:
    """The row with the majority's answer as its truth, and the fields that give pairs; none where no field does.

    A field without agreement has its most frequent value on both sides of a pair, and an answer that cannot be read is
    rejected only where every field has agreement.
    """
    found = consensus(task, answers, agreement)
    if found is None or not found.agreed:
        return None, frozenset()
    try:
        expected = task.render(found.values)
    except TaskError:
        return None, frozenset()
    whole = {WHOLE} if found.agreed == set(task.names) else set()
    return replace(row, truth=found.values, expected=expected), found.agreed | whole


def _names(row: EvalRow, out: Path, folder: DatasetFolder) -> list[str]:
    """Names of a row's images in the file of pairs."""
    if row.image.is_relative_to(folder.path):
        return [path.relative_to(folder.path).as_posix() for path in row.images]
    return [copied(row, out)]
