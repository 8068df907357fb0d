"""Build a data set folder: source -> rows -> pictures -> groups and splits -> findings -> folder.

Every row of the source ends in the table or in rejects.jsonl. A build that was interrupted, even by kill -9, goes on
where it stopped, and its folder is the same to the byte as that of an undisturbed one. A build that is repeated asks
again only for pictures that may have come right by themselves.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from phisight.core.datadir import CARD, IMAGES, METADATA, REJECTS, SPLITS, DatasetCard
from phisight.core.errors import DatasetError, SettingsError
from phisight.core.rundir import atomic_file
from phisight.core.task import Task
from phisight.data.checks import Finding, Findings, check_pictures, check_table, check_values
from phisight.data.columns import Columns, choose_columns, conversation_task
from phisight.data.fingerprint import near_duplicates
from phisight.data.grouping import GroupRule, Groups
from phisight.data.images import ImageLimits
from phisight.data.journal import Journal, StagedRow
from phisight.data.limits import FetchLimits
from phisight.data.obtain import ImageStore
from phisight.data.outcomes import Refusal, StoredImage
from phisight.data.resume import resume
from phisight.data.sources import Source, open_source
from phisight.data.sources.conversations import ConversationSource
from phisight.data.split import SplitShares, assign_splits
from phisight.data.staging import Stager
from phisight.data.table import NUMBER, KeptRow, carried_name, write_metadata
from phisight.data.workers import obtain, processes_for
from phisight.data.worklog import STORED, Entry

Report = Callable[[int, int | None, Counter[str]], None]
"""Called while pictures come in: settled, rows of the source (none: unknown), refused ones by kind."""


@dataclass(frozen=True)
class BuildOptions:
    """Everything but source and folder."""

    image: str | None = None
    key: str | None = None
    task: Task | None = None
    prompt: str | None = None
    """Question put to every picture, where the task is guessed."""
    group: GroupRule = field(default_factory=GroupRule)
    near_duplicates: bool = True
    shares: SplitShares = field(default_factory=SplitShares)
    seed: int = 0
    limits: ImageLimits = field(default_factory=ImageLimits)
    fetch: FetchLimits = field(default_factory=FetchLimits)
    engine: str = "local"
    """local, or ray: the same build on a cluster."""
    processes: int | None = None
    """Worker processes; none: by the number of rows."""
    image_root: Path | None = None
    encoding: str = "utf-8-sig"


@dataclass
class BuildResult:
    """What a build did; read = kept + rejected."""

    folder: Path
    read: int
    kept: int
    rejected: Counter[str]
    splits: dict[str, int]
    findings: list[Finding]
    guesses: list[str]
    remarks: list[str]


def build(
    source: str | Source, out: str | Path, options: BuildOptions | None = None, report: Report | None = None
) -> BuildResult:
    """Build DIR from a source.

    Raises SourceError (the source cannot be read), SettingsError (a column that is not there, nothing to guess),
    TaskError (columns of the wrong type) and DatasetError (DIR holds something else, or nothing was kept).
    """
    options = options or BuildOptions()
    if options.engine not in ("local", "ray"):
        raise SettingsError(f"--engine {options.engine!r} is neither local nor ray")
    folder = Path(out)
    if isinstance(source, str):
        source = open_source(source, encoding=options.encoding)
    columns = choose_columns(
        source.schema.names,
        image=options.image or source.image_column,
        key=options.key or source.key_column,
        task=options.task or _conversation_task(source, options.prompt),
        prompt=options.prompt,
    )
    _check_group_column(options.group, source)
    _check_target(folder)
    journal = Journal(folder)
    try:
        resume(folder, journal, options.limits)
        question = columns.task.prompt if isinstance(source, ConversationSource) else None
        stager = Stager(source, columns, options.group, options.image_root or source.root, journal, question)
        _obtain_all(stager, ImageStore(folder, options.limits), options, report)
        result = _Finisher(folder, journal, columns, options).finish(source, stager)
    except BaseException:
        journal.close()
        raise
    journal.finish()
    return result


def _conversation_task(source: Source, prompt: str | None) -> Task | None:
    return conversation_task(source.questions(), prompt) if isinstance(source, ConversationSource) else None


def _check_group_column(group: GroupRule, source: Source) -> None:
    if group.column is not None and group.column not in source.schema.names:
        raise SettingsError(f"--group {group.column!r} is no column; the columns are {', '.join(source.schema.names)}")


def _check_target(folder: Path) -> None:
    """A folder that is new, empty, or one of ours."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; name a folder with --out")
    ours = {CARD, METADATA, REJECTS, IMAGES, ".build"}
    strange = [path.name for path in folder.iterdir() if path.name not in ours] if folder.is_dir() else []
    if strange:
        raise DatasetError(
            f"{folder} already holds {strange[0]!r}, which is no part of a data set; choose another --out"
        )


def _obtain_all(stager: Stager, store: ImageStore, options: BuildOptions, report: Report | None) -> None:
    total = stager.source.count()
    refused: Counter[str] = Counter()
    done = 0

    def settled(entries: Sequence[Entry]) -> None:
        nonlocal done
        stager.journal.settle(entries)
        done += len(entries)
        refused.update(kind for _, kind, _ in entries if kind != STORED)
        if report:
            report(done, total, refused)

    if options.engine == "ray":
        from phisight.data.ray_engine import obtain_on_ray

        obtain_on_ray(stager.jobs(), store, settled, options.fetch)
    else:
        obtain(stager.jobs(), store, settled, options.fetch, options.processes or processes_for(total))


class _Finisher:
    """Second half of a build: from staged rows and settled pictures to the finished folder."""

    def __init__(self, folder: Path, journal: Journal, columns: Columns, options: BuildOptions) -> None:
        self.folder = folder
        self.journal = journal
        self.columns = columns
        self.options = options
        self.findings = Findings()

    def finish(self, source: Source, stager: Stager) -> BuildResult:
        """Write rejects, table and card; check that every row is accounted for."""
        staged: list[StagedRow] = []
        images: list[StoredImage] = []
        rejected: Counter[str] = Counter()
        with atomic_file(self.folder / REJECTS) as file:
            for row, outcome in self.journal.rows():
                if isinstance(outcome, StoredImage):
                    staged.append(row)
                    images.append(outcome)
                else:
                    rejected[outcome.kind] += 1
                    file.write(_reject_line(row, outcome))
        if len(staged) + rejected.total() != stager.read:
            raise AssertionError(f"{len(staged)} kept + {rejected.total()} rejected != {stager.read} read")
        if not staged:
            raise DatasetError(
                f"none of {stager.read} rows could be kept ({_most(rejected)}); {self.folder / REJECTS} says why"
            )
        kept = self._kept_rows(staged, images)
        write_metadata(self.folder / METADATA, self.journal.rows_path, kept)
        self._check_rows(staged)
        splits = Counter(row.split for row in kept)
        result = BuildResult(
            self.folder,
            stager.read,
            len(kept),
            rejected,
            {name: splits[name] for name in SPLITS},
            self.findings.found(),
            self.columns.guesses,
            stager.offenders(),
        )
        self._write_card(source, result)
        _prune(self.folder, {image.file_name for image in images})
        return result

    def _kept_rows(self, staged: list[StagedRow], images: list[StoredImage]) -> list[KeptRow]:
        keys = [row.key for row in staged]
        shas = [image.sha256 for image in images]
        near: set[int] = set()
        groups = Groups(len(staged))
        groups.join_equal([row.group for row in staged])
        groups.join_equal(keys)
        if self.options.near_duplicates:
            groups.join_equal(shas)
            for one, two in near_duplicates([i.phash for i in images], [i.colours for i in images]):
                groups.join(one, two)
                if shas[one] != shas[two]:
                    near |= {one, two}
        names = groups.names(keys)
        categories = [row.category for row in staged]
        prices = [math.nan if row.price is None else row.price for row in staged]
        splits = assign_splits(names, categories, prices, self.options.shares, self.options.seed)
        answers = [f"{row.category}\x1f{row.price}" for row in staged]
        check_pictures(self.findings, keys, shas, near, answers)
        check_table(self.findings, keys, categories, names)
        for key, image in zip(keys, images, strict=True):
            for note in filter(None, image.notes.split(",")):
                self.findings.add(f"image_{note}", key)
        return [
            KeptRow(row.number, row.token or "", image, split, name)
            for row, image, split, name in zip(staged, images, splits, names, strict=True)
        ]

    def _check_rows(self, staged: list[StagedRow]) -> None:
        import pyarrow.parquet as pq

        at = 0
        with pq.ParquetFile(self.folder / METADATA) as file:
            for batch in file.iter_batches(batch_size=8192):
                for row in batch.to_pylist():
                    check_values(self.findings, staged[at].key, row, self.columns.task)
                    at += 1

    def _write_card(self, source: Source, result: BuildResult) -> None:
        card = DatasetCard(
            task=self.columns.task,
            key=carried_name(self.columns.key) if self.columns.key else NUMBER,
            rows=result.kept,
            rejected=result.rejected.total(),
            splits=result.splits,
            source=source.description,
        )
        extra: dict[str, Any] = {
            "rejected_by_kind": dict(sorted(result.rejected.items())),
            "findings": [finding.model_dump() for finding in result.findings],
            "build": {
                "seed": self.options.seed,
                "shares": asdict(self.options.shares),
                "group": asdict(self.options.group),
                "near_duplicates": self.options.near_duplicates,
                "limits": asdict(self.options.limits),
            },
        }
        card.model_copy(update=extra).write(self.folder)


def _reject_line(row: StagedRow, refusal: Refusal) -> bytes:
    line = {"row": row.number, "key": row.key, "url": row.url, "kind": refusal.kind, "reason": refusal.reason}
    if row.token and row.token.startswith("url:"):
        line["token"] = row.token
    return (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _most(rejected: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in rejected.most_common(3)) or "the source is empty"


def _prune(folder: Path, wanted: set[str]) -> None:
    """Remove pictures that no row needs (left by an interrupted build or an older version of the source)."""
    for parent, _, names in os.walk(folder / IMAGES, topdown=False):
        place = Path(parent).relative_to(folder).as_posix()
        unwanted = [name for name in names if f"{place}/{name}" not in wanted]
        for name in unwanted:
            Path(parent, name).unlink()
        if len(unwanted) == len(names) and place != IMAGES and not os.listdir(parent):  # noqa: PTH208 - a quick check
            Path(parent).rmdir()
