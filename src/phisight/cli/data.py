"""``phisight data``: build a data set folder and look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phisight.cli import data_options as options
from phisight.cli.console import console, progress_bar

if TYPE_CHECKING:
    from collections import Counter

    from phisight.core.task import Task
    from phisight.data.build.finish.finalize import BuildResult

app = typer.Typer(
    help="Build data sets from tables, folders and hub data sets, and look at them.", no_args_is_help=True
)


@app.command("build")
def build_command(
    source: options.Source,
    out: options.Out,
    image: options.Image = None,
    key: options.Key = None,
    task: options.Task = None,
    fields: options.Fields = None,
    answer: options.Answer = None,
    prompt: options.Prompt = None,
    group: options.Group = None,
    group_regex: options.GroupRegex = None,
    near_duplicates: options.NearDuplicates = True,
    shares: options.Shares = "0.8,0.1,0.1",
    seed: options.Seed = 0,
    engine: options.Engine = "local",
    processes: options.Processes = None,
    image_root: options.ImageRoot = None,
    layout: options.Layout = "imagefolder",
    encoding: options.Encoding = "utf-8-sig",
    max_bytes: options.MaxBytes = 50000000,
    max_pixels: options.MaxPixels = 50000000,
    time_limit: options.TimeLimit = 30.0,
    attempts: options.Attempts = 4,
    connections: options.Connections = 128,
    per_host: options.PerHost = 32,
    http2: options.Http2 = False,
    allow_private: options.AllowPrivate = False,
    min_side: options.MinSide = 8,
) -> None:
    """Build a data set folder from SOURCE.

    Columns that are not named are guessed from their names, and the guess is printed. Every row ends in the table or
    in rejects.jsonl with the reason. Run the same command again to ask for what is still missing.
    """
    from phisight.data.build.build_dataset import build
    from phisight.data.build.plan.config import BuildOptions
    from phisight.data.build.plan.groups import GroupRule
    from phisight.data.build.plan.splits import SplitShares
    from phisight.data.fetch.limits import FetchLimits
    from phisight.data.images.decode import ImageLimits

    chosen = BuildOptions(
        image=image,
        key=key,
        task=task_from_options(task, fields or [], answer, prompt),
        prompt=prompt,
        group=GroupRule(group, tuple(group_regex or ())),
        near_duplicates=near_duplicates,
        shares=SplitShares(*_shares(shares)),
        seed=seed,
        limits=ImageLimits(max_bytes=max_bytes, max_pixels=max_pixels, min_side=min_side),
        fetch=FetchLimits(
            total_s=time_limit,
            attempts=attempts,
            connections=connections,
            per_host=per_host,
            http2=http2,
            allow_private=allow_private,
        ),
        engine=engine,
        processes=processes,
        image_root=image_root,
        encoding=encoding,
    )
    with progress_bar() as bar:
        row = bar.add_task("pictures", total=None, note="")

        def report(done: int, total: int | None, refused: Counter[str]) -> None:
            note = "  ".join(f"{kind} {count}" for kind, count in refused.most_common(3))
            bar.update(row, completed=done, total=total, note=note)

        result = build(source, out, chosen, report)
    _print_result(result)
    if layout != "imagefolder":
        _export_beside(out, layout)


def _export_beside(out: Path, layout: str) -> None:
    from phisight.data.dataset.export_formats import export
    from phisight.data.dataset.folder import DatasetFolder

    target = out.with_name(f"{out.resolve().name}-{layout}")
    files = export(DatasetFolder.open(out), target, layout)
    console.print(f"{len(files)} files in {target}", markup=False, soft_wrap=True)


def _shares(text: str) -> tuple[float, float, float]:
    from phisight.core.errors import SettingsError

    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--shares {text!r} must be three numbers with commas between: 0.8,0.1,0.1") from None
    return train, validation, test


def task_from_options(file: Path | None, fields: list[str], answer: str | None, prompt: str | None) -> Task | None:
    """The task that was told, or none when it is to be guessed; SettingsError or TaskError when it makes no sense."""
    from phisight.core.errors import SettingsError
    from phisight.data.build.plan.columns import kinds_by_name, read_task, task_of_fields

    if file is not None:
        if fields or answer or prompt:
            raise SettingsError("--task FILE holds prompt, answer and fields; leave --field, --answer and --prompt out")
        return read_task(file)
    if not fields:
        if answer is not None:
            raise SettingsError("--answer needs a --field NAME:KIND for each {name} in it")
        return None
    return task_of_fields(kinds_by_name(fields), answer, prompt)


def _print_result(result: BuildResult) -> None:
    from rich.table import Table

    for guess in result.guesses:
        console.print(f"guessed: {guess}", markup=False, highlight=False)
    for remark in result.remarks:
        console.print(f"remark: {remark}", markup=False, highlight=False)
    table = Table("rows", "count", title=str(result.folder), title_justify="left")
    table.add_row("read", str(result.read))
    table.add_row("kept", str(result.kept))
    for kind, count in sorted(result.rejected.items()):
        table.add_row(f"rejected: {kind}", str(count))
    for name, count in result.splits.items():
        table.add_row(f"split {name}", str(count))
    console.print(table)
    for finding in result.findings:
        console.print(f"finding: {finding.count} x {finding.meaning} ({', '.join(finding.keys)})", markup=False)


@app.command("show")
def show_command(
    folder: Annotated[Path, typer.Argument(help="A data set folder.")],
    rows: Annotated[int, typer.Option(help="How many rows.")] = 10,
    split: Annotated[str | None, typer.Option(help="Rows of this split only.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show what is trained on (bold) and what is not.")] = False,
    model: Annotated[
        str, typer.Option(help="With --tokens: whose tokenizer and picture grid (tiny, a folder, a hub name).")
    ] = "tiny",
) -> None:
    """Print rows: key, split, picture, and the answer that is trained on.

    Example: phisight data show data/products --tokens
    """
    from rich.table import Table

    from phisight.data.dataset.folder import DatasetFolder

    data = DatasetFolder.open(folder)
    if tokens:
        _show_tokens(folder, model, split, rows)
        return
    console.print(f"prompt: {data.task.prompt}", markup=False)
    table = Table("key", "split", "picture", "answer")
    for row in data.rows(split)[:rows]:
        table.add_row(*map(_plain, (row[data.card.key], row["split"], row["file_name"], data.task.render(row))))
    console.print(table)


def _show_tokens(folder: Path, model: str, split: str | None, rows: int) -> None:
    from rich.text import Text

    from phisight.workflows.show_tokens import labelled_tokens

    for name, runs in labelled_tokens(folder, model=model, split=split, rows=rows):
        line = Text()
        for run in runs:
            line.append(run.text, style="bold green" if run.trained else "cyan" if run.image else "dim")
        trained = sum(run.tokens for run in runs if run.trained)
        every = sum(run.tokens for run in runs)
        console.print(f"{name}: {trained} of {every} tokens are trained on", markup=False)
        console.print(line)


def _plain(value: Any) -> str:
    from rich.markup import escape

    return escape(str(value))


@app.command("check")
def check_command(folder: Annotated[Path, typer.Argument(help="A data set folder.")]) -> None:
    """Look for leaks between the splits: a product or a (nearly) equal picture on both sides; exit code 1 if any."""
    from phisight.data.dataset.folder import DatasetFolder
    from phisight.data.dataset.leakage import find_leaks

    data = DatasetFolder.open(folder)
    for finding in (data.card.model_extra or {}).get("findings", []):
        console.print(f"finding: {finding['count']} x {finding['meaning']}", markup=False)
    leaks = find_leaks(data)
    for leak in leaks:
        console.print(f"leak: {leak.count} rows share a {leak.kind} ({', '.join(leak.examples)})", markup=False)
    if leaks:
        console.print("build the folder again: phisight data build keeps such rows in one split")
        raise typer.Exit(1)
    console.print(f"no leaks between {', '.join(data.split_names)} ({len(data)} rows)", markup=False)


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="A data set folder.")],
    out: Annotated[Path, typer.Option("--out", help="New folder to write.")],
    layout: Annotated[str, typer.Option("--format", help="parquet, webdataset or csv.")] = "parquet",
    shard_mb: Annotated[int, typer.Option(help="Megabytes of pictures in a shard.")] = 400,
) -> None:
    """Write a data set as Parquet or WebDataset shards with the pictures inside, or its table as CSV."""
    from phisight.data.dataset.export_formats import export
    from phisight.data.dataset.folder import DatasetFolder

    for path in export(DatasetFolder.open(folder), out, layout, shard_mb * 1_000_000):
        console.print(str(path), markup=False, soft_wrap=True)


@app.command("push")
def push_command(
    folder: Annotated[Path, typer.Argument(help="A data set folder.")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it (default: private).")] = False,
) -> None:
    """Push a data set to a hub repository, as Parquet shards with the pictures inside."""
    from phisight.data.dataset.folder import DatasetFolder
    from phisight.data.dataset.push import push

    console.print(push(DatasetFolder.open(folder), repository, private=not public), markup=False, soft_wrap=True)


@app.command("inspect")
def inspect_command(
    folder: Annotated[Path, typer.Argument(help="A data set folder.")],
    out: Annotated[Path | None, typer.Option(help="Page to write (default: DIR.html beside the folder).")] = None,
) -> None:
    """Describe a data set in the terminal, and as one self-contained page to look at."""
    from phisight.data.dataset.folder import DatasetFolder
    from phisight.data.dataset.inspect import describe, page, text

    data = DatasetFolder.open(folder)
    description = describe(data)
    console.print(text(description))
    target = out or folder.with_name(f"{folder.resolve().name}.html")
    page(data, description, target)
    console.print(f"page: {target}", markup=False, soft_wrap=True)
