"""Build a data set folder: source -> rows -> images -> groups and splits -> findings -> folder.

Every row of the source ends in the table or in rejects.jsonl. A build that was interrupted, even by kill -9,
continues where it stopped, and its folder is the same to the byte as that of an undisturbed one. A repeated build
downloads again only what failed for a transient reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from phisight.data.build.finish.finalize import BuildResult, Finalizer
from phisight.data.build.finish.put_in_place import check_same_source, complete_publishing
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.kept_splits import KeptSplits
from phisight.data.build.plan.source_plan import Plan, prepare
from phisight.data.build.work.image_store import ImageStore
from phisight.data.build.work.journal import Journal
from phisight.data.build.work.pool import download, processes_for
from phisight.data.build.work.resume import resume
from phisight.data.build.work.stage import Stager
from phisight.data.build.work.worklog import STORED, Entry
from phisight.data.build.work.workspace import workspace
from phisight.data.fetch.local_files import LocalFiles
from phisight.data.sources import Source

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
    plan = prepare(source, options)
    return run(plan, Path(out), options, report)


def run(
    plan: Plan, folder: Path, options: BuildOptions, report: Report | None = None, *, kept: KeptSplits | None = None
) -> BuildResult:
    """Download, check and store what a plan names; write the folder. ``kept``: splits that the first rows have."""
    if not options.overwrite:
        check_same_source(folder, plan.source.description)
    with workspace(folder):
        complete_publishing(folder)
        journal = Journal(folder)
        try:
            resume(folder, journal, options.limits)
            files = LocalFiles(plan.root, options.image_fence) if plan.root is not None else None
            stager = Stager(
                plan.source, plan.columns, options.group, files, journal, plan.question, options.images_per_key
            )
            _download_all(stager, ImageStore(folder, options.limits), options, report)
            finalizer = Finalizer(folder, journal, plan.columns, options, plan.own_split, kept)
            remarks = [*plan.remarks(), *(files.remarks if files is not None else [])]
            result = finalizer.finalize(plan.source.description, remarks, stager)
        except BaseException:
            journal.close()
            raise
        journal.remove()
    return result


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
