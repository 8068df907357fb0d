"""Build a data set folder: source -> rows -> images -> groups and splits -> findings -> folder.

Every row of the source ends in the table or in rejects.jsonl. A build that was interrupted, even by kill -9,
continues where it stopped, and its folder is the same to the byte as that of an undisturbed one. A repeated build
downloads again only what failed for a transient reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from phisight.core.errors import SettingsError, TaskError
from phisight.core.task import Task
from phisight.data.build.finish.finalize import BuildResult, Finalizer
from phisight.data.build.finish.put_in_place import check_same_source, complete_publishing
from phisight.data.build.plan.columns import Columns, choose_columns, conversation_task
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.plan.own_split import OwnSplit, find_own_split
from phisight.data.build.work.download import ImageStore
from phisight.data.build.work.journal import Journal
from phisight.data.build.work.pool import download, processes_for
from phisight.data.build.work.resume import resume
from phisight.data.build.work.stage import Stager
from phisight.data.build.work.worklog import STORED, Entry
from phisight.data.build.work.workspace import workspace
from phisight.data.sources import Source, open_source
from phisight.data.sources.conversations import ConversationSource
from phisight.data.values.prepared_source import PreparedSource

Result = TypeVar("Result")
Report = Callable[[int, int | None, Counter[str]], None]
"""Called while images come in: images done, rows of the source (None: unknown), rejections by kind."""


def build(
    source: str | Source, out: str | Path, options: BuildOptions | None = None, report: Report | None = None
) -> BuildResult:
    """Build DIR from a source.

    Raises SourceError (the source cannot be read), SettingsError (everything that has to be said before: columns that
    are not there or cannot be guessed, values that can be read in two ways), TaskError (columns of the wrong type) and
    DatasetError (DIR holds something else, or no row was accepted).
    """
    options = options or BuildOptions()
    if options.engine not in ("local", "ray"):
        raise SettingsError(f"--engine {options.engine!r} is neither local nor ray")
    folder = Path(out)
    if isinstance(source, str):
        source = open_source(source, encoding=options.encoding, sheet=options.sheet, max_bytes=options.limits.max_bytes)
    source, columns, own_split, question = _planned(source, options)
    if not options.overwrite:
        check_same_source(folder, source.description)
    with workspace(folder):
        complete_publishing(folder)
        journal = Journal(folder)
        try:
            resume(folder, journal, options.limits)
            stager = Stager(source, columns, options.group, options.image_root or source.root, journal, question)
            _download_all(stager, ImageStore(folder, options.limits), options, report)
            result = Finalizer(folder, journal, columns, options, own_split).finalize(source, stager)
        except BaseException:
            journal.close()
            raise
        journal.remove()
    return result


def _planned(source: Source, options: BuildOptions) -> tuple[PreparedSource, Columns, OwnSplit | None, str | None]:
    """The source as it is read, its columns, its own split and the one question of conversations.

    SettingsError says everything that stops the build at once.
    """
    problems: list[str] = []

    def tried(step: Callable[[], Result]) -> Result | None:
        try:
            return step()
        except SettingsError as error:
            problems.extend(error.problems)
        except TaskError as error:
            problems.append(str(error))
        return None

    task = options.task or tried(lambda: _conversation_task(source, options.prompt))
    chosen = choose_columns(
        source,
        image=options.image or source.image_column,
        key=options.key or source.key_column,
        task=task,
        prompt=options.prompt,
    )
    problems += chosen.problems
    own_split = tried(lambda: find_own_split(source, options.split_column, honored=options.own_split))
    tried(lambda: _check_group_column(options.group, source))
    given = {"--number": options.numbers, "--date": options.dates, "--list": options.lists}
    known = chosen.task
    prepared = tried(lambda: PreparedSource(source, known, given)) if known is not None else None
    if problems or prepared is None or chosen.columns is None:
        first, *others = problems
        raise SettingsError(f"{len(problems)} things stop the build: {first}" if others else first, *others)
    columns = replace(
        chosen.columns,
        guesses=[*chosen.columns.guesses, *prepared.guesses, *([own_split.sentence] if own_split else [])],
        options=(*chosen.columns.options, *prepared.options, *(own_split.options if own_split else ())),
    )
    return prepared, columns, own_split, columns.task.prompt if isinstance(source, ConversationSource) else None


def _conversation_task(source: Source, prompt: str | None) -> Task | None:
    return conversation_task(source.questions(), prompt) if isinstance(source, ConversationSource) else None


def _check_group_column(group: GroupRule, source: Source) -> None:
    if group.column is not None and group.column not in source.schema.names:
        raise SettingsError(f"--group {group.column!r} is no column; the columns are {', '.join(source.schema.names)}")


def _download_all(stager: Stager, store: ImageStore, options: BuildOptions, report: Report | None) -> None:
    total = stager.source.count()
    rejected: Counter[str] = Counter()
    done = 0

    def on_results(entries: Sequence[Entry]) -> None:
        nonlocal done
        stager.journal.record(entries)
        done += len(entries)
        rejected.update(kind for _, kind, _ in entries if kind != STORED)
        if report:
            report(done, total, rejected)

    if options.engine == "ray":
        from phisight.data.build.work.ray_engine import download_on_ray

        download_on_ray(stager.jobs(), store, on_results, options.fetch)
    else:
        download(stager.jobs(), store, on_results, options.fetch, options.processes or processes_for(total))
