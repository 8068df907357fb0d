"""``phisight data``: build a data set folder, look at it, export it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phisight.cli.data_build import (
    BUILD_HELP,
    AllowPrivate,
    Encoding,
    ImageFence,
    MaxBytes,
    MaxPixels,
    MinSide,
    Sheet,
    build_command,
    print_result,
    reporter,
)  # fmt: skip
from phisight.cli.screen import console, progress_bar

app = typer.Typer(
    help="Build data sets from tables, folders and hub data sets, and look at them.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(help="A data set folder.")]

app.command("build", help=BUILD_HELP)(build_command)


@app.command("correct")
def correct_command(
    folder: Folder,
    review: Annotated[Path, typer.Argument(help="Table of answers that a person corrected: image and fields.")],
    image_root: Annotated[
        Path | None, typer.Option(help="Folder that the table's paths begin in (default: the working folder).")
    ] = None,
    image_fence: ImageFence = None,
    encoding: Encoding = "utf-8-sig",
    sheet: Sheet = None,
    max_bytes: MaxBytes = 50000000,
    max_pixels: MaxPixels = 50000000,
    min_side: MinSide = 8,
    allow_private: AllowPrivate = False,
) -> None:
    """Add corrected answers to a data set as rows: a new version beside it.

    The table is what `phisight predict --min-confidence` sets aside, with its fields put right by a person.

    Example: phisight data correct data/shop fields.review.csv
    """
    from phisight.data.build.plan.config import BuildOptions
    from phisight.data.dataset.add_rows import correct
    from phisight.data.fetch.limits import FetchLimits
    from phisight.data.images.decode import ImageLimits

    options = BuildOptions(
        image_root=image_root,
        image_fence=image_fence,
        encoding=encoding,
        sheet=sheet,
        limits=ImageLimits(max_bytes, max_pixels, min_side),
        fetch=FetchLimits(allow_private=allow_private),
    )
    with progress_bar() as progress:
        result = correct(folder, review, options, reporter(progress))
    print_result(result)


@app.command("show")
def show_command(
    folder: Folder,
    rows: Annotated[int, typer.Option(help="How many rows.")] = 10,
    split: Annotated[str | None, typer.Option(help="Rows of this split only.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show what is trained on (bold) and what is not.")] = False,
    pairs: Annotated[
        Path | None, typer.Option(help="Show pairs of answers instead: a JSONL file, or a folder with pairs.jsonl.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="With --tokens, --pairs: whose tokenizer and image grid (tiny, a folder, a hub name).")
    ] = "tiny",
) -> None:
    """Print rows: key, split, image, and the answer that is trained on; or pairs, their differing tokens marked.

    Example: phisight data show data/products --tokens
    """
    from rich.table import Table

    from phisight.data.dataset.folder import DatasetFolder

    if pairs is not None:
        _show_pairs(folder, pairs, model, rows)
        return
    data = DatasetFolder.open(folder)
    if tokens:
        _show_tokens(folder, model, split, rows)
        return
    console.print(f"prompt: {data.task.prompt}", markup=False)
    table = Table("key", "split", "image", "answer")
    for row in data.rows(split)[:rows]:
        table.add_row(*map(_plain, (row[data.card.key], row["split"], row["file_name"], data.task.render(row))))
    console.print(table)


def _show_tokens(folder: Path, model: str, split: str | None, rows: int) -> None:
    from rich.text import Text

    from phisight.workflows.show_tokens import labeled_tokens

    for name, runs in labeled_tokens(folder, model=model, split=split, rows=rows):
        line = Text()
        for run in runs:
            line.append(run.text, style="bold green" if run.trained else "cyan" if run.image else "dim")
        trained = sum(run.tokens for run in runs if run.trained)
        every = sum(run.tokens for run in runs)
        console.print(f"{name}: {trained} of {every} tokens are trained on", markup=False)
        console.print(line)


def _show_pairs(folder: Path, pairs: Path, model: str, rows: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from phisight.workflows.show_tokens import Part, compared_pairs

    def marked(parts: list[Part], style: str, sign: str) -> Text:
        """The differing parts in a style, or, where there are no colors, between signs."""
        line, colors = Text(), console.color_system is not None
        for part in parts:
            line.append(
                part.text if colors or not part.differs else f"[{sign}{part.text}{sign}]",
                style=style if part.differs else None,
            )
        return line

    shown, left_out = compared_pairs(folder, pairs, model=model, rows=rows)
    table = Table("image", "chosen", "rejected", show_lines=True)
    for prompt in dict.fromkeys(one.prompt for one in shown):
        console.print(f"prompt: {prompt}", markup=False, soft_wrap=True)
    for one in shown:
        table.add_row(
            Text(one.image), marked(one.chosen, "bold green", "+"), marked(one.rejected, "bold red strike", "-")
        )
    console.print(table)
    for sentence in left_out[:rows]:
        console.print(f"left out: {sentence}", markup=False, soft_wrap=True)
    if len(left_out) > rows:
        console.print(f"left out: {len(left_out) - rows} more pairs", markup=False)


def _plain(value: Any) -> str:
    from rich.markup import escape

    return escape(str(value))


@app.command("check")
def check_command(folder: Folder) -> None:
    """Look for leaks between the splits and for images that changed since the build; exit code 1 if there are any.

    A leak is a product or a (nearly) equal image in more than one split.
    """
    from phisight.data.dataset.folder import DatasetFolder
    from phisight.data.dataset.leakage import damaged_images, find_leaks

    data = DatasetFolder.open(folder)
    for finding in data.findings:
        console.print(f"finding: {finding['count']} x {finding['meaning']}", markup=False)
    leaks = find_leaks(data)
    for leak in leaks:
        console.print(f"leak: {leak.count} rows share a {leak.kind} ({', '.join(leak.examples)})", markup=False)
    if leaks:
        console.print("build the folder again: phisight data build keeps such rows in one split")
    damaged = damaged_images(data)
    if damaged:
        some = ", ".join(damaged[:5])
        console.print(f"damaged: {len(damaged)} images are not what was stored ({some})", markup=False)
        console.print("run the same phisight data build again: it restores them")
    if leaks or damaged:
        raise typer.Exit(1)
    console.print(f"no leaks between {', '.join(data.split_names)} ({len(data)} rows)", markup=False)


@app.command("export")
def export_command(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="New folder to write.")],
    layout: Annotated[str, typer.Option("--format", help="parquet, webdataset or csv.")] = "parquet",
    shard_mb: Annotated[int, typer.Option(help="Megabytes of images in a shard.")] = 400,
) -> None:
    """Write a data set as Parquet or WebDataset shards with the images inside, or its table as CSV."""
    from phisight.data.dataset.export_formats import export
    from phisight.data.dataset.folder import DatasetFolder

    for path in export(DatasetFolder.open(folder), out, layout, shard_mb * 1_000_000):
        console.print(str(path), markup=False, soft_wrap=True)


@app.command("push")
def push_command(
    folder: Folder,
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it (default: private).")] = False,
) -> None:
    """Push a data set to a hub repository, as Parquet shards with the images inside."""
    from phisight.data.dataset.folder import DatasetFolder
    from phisight.data.dataset.push import push

    console.print(push(DatasetFolder.open(folder), repository, private=not public), markup=False, soft_wrap=True)


@app.command("inspect")
def inspect_command(
    folder: Folder,
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
