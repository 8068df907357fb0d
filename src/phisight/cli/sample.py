"""``phisight sample``: draw a catalogue, imitate a table, check an imitation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from phisight.cli.screen import console, progress_bar

if TYPE_CHECKING:
    from phisight.sample.card import SampleCard
    from phisight.sample.like.real_table import RealTable

app = typer.Typer(help="Draw a catalogue of products with images, without a row of real data.", no_args_is_help=True)


@app.command("make")
def make_command(
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet, or be empty.")],
    rows: Annotated[int | None, typer.Option(help="How many products to draw.")] = None,
    foreign: Annotated[
        int | None, typer.Option(help="Instead of products: this many images that show nothing of a task.")
    ] = None,
    kinds: Annotated[
        str, typer.Option(help="Kinds of --foreign, separated by commas; without: all, listed in sample.json.")
    ] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes, on any number of workers.")] = 0,
    preset: Annotated[
        str,
        typer.Option(
            help="fashion: full variety, images of 224 to 1,344 pixels; demo: small and easy to learn; receipts: a "
            "field of every kind; captions: all products in generic words, what tiny-base was pretrained on.",
        ),
    ] = "fashion",
    like: Annotated[
        str | None,
        typer.Option(
            help="Learn from this table (what data build reads, or a data set folder) and make a new one of its kind; "
            "with --foreign: take the sizes of its images."
        ),
    ] = None,
    faults: Annotated[
        str,
        typer.Option(
            help="Plant dirt: 'all', 'all=0.02' or 'broken_image=0.01,outlier_price=0.02'; listed in faults.jsonl."
        ),
    ] = "",
    workers: Annotated[int, typer.Option(help="Processes that draw; 0: one for each core.")] = 0,
    sheet: Annotated[Path | None, typer.Option(help="Also write a contact sheet (PNG or JPEG) to look at.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier sample in --out.")] = False,
) -> None:
    """Draw a sample catalogue: a price list of 17 columns, one image a row, ready for every other command.

    The price rule and its noise are written to sample.json, so the best possible error is known.

    With --foreign, images that show nothing of a task, for train.abstain and evaluate --foreign.

    Example: phisight sample make --rows 500 --out data/sample --seed 1
    """
    from phisight.core.errors import SampleError

    drawing = _Drawing(out, seed, workers or os.cpu_count() or 1, overwrite)
    if foreign is not None:
        if rows is not None or faults or preset != "fashion":
            raise SampleError("--foreign takes neither --rows nor --preset nor --faults; leave them out")
        _make_foreign(foreign, kinds, like, drawing)
    elif rows is None or kinds:
        raise SampleError("give --rows N for products, or --foreign N with --kinds for images that show none")
    else:
        _make_products(rows, preset, like, faults, drawing)
    if sheet is not None:
        from phisight.sample.contact_sheet import contact_sheet

        contact_sheet(out).save(sheet)
        console.print(f"contact sheet: {sheet}", highlight=False)


class _Drawing(NamedTuple):
    """Where a sample goes, and how it is drawn."""

    out: Path
    seed: int
    workers: int
    overwrite: bool

    def options(self, progress: Callable[[int], None]) -> dict[str, Any]:
        """Keyword arguments of every function that draws a sample."""
        return {"seed": self.seed, "workers": self.workers, "overwrite": self.overwrite, "progress": progress}


def _make_products(rows: int, preset: str, like: str | None, faults: str, drawing: _Drawing) -> None:
    from phisight.core.errors import SampleError
    from phisight.sample.captions.caption_folder import PRESET as CAPTIONS
    from phisight.sample.captions.caption_folder import make_captions
    from phisight.sample.catalogue.presets import preset as preset_of
    from phisight.sample.draw_catalogue import make
    from phisight.sample.faults import parse_rates
    from phisight.sample.like.imitate import imitate
    from phisight.sample.receipts.receipt_folder import PRESET as RECEIPTS
    from phisight.sample.receipts.receipt_folder import make_receipts

    rates = parse_rates(faults)
    folder_of = {RECEIPTS: make_receipts, CAPTIONS: make_captions}.get(preset)
    if folder_of and (like is not None or rates):
        raise SampleError(f"--preset {preset} takes neither --like nor --faults; leave them out")
    settings = preset_of("fashion" if folder_of else preset)
    if like is not None and rates:
        raise SampleError("--faults goes with a drawn catalogue, not with --like; leave one of them out")
    with _progress(rows) as progress:
        if folder_of:
            card = folder_of(rows, drawing.out, **drawing.options(progress))
        elif like is None:
            card = make(rows, drawing.out, settings=settings, faults=rates, **drawing.options(progress))
        else:
            card = imitate(_real_table(like), rows, drawing.out, settings=settings, **drawing.options(progress))
    _print_card(card, drawing.out)


def _make_foreign(count: int, kinds: str, like: str | None, drawing: _Drawing) -> None:
    from phisight.data.dataset.folder import DatasetFolder
    from phisight.data.dataset.image_groups import recorded_sizes
    from phisight.sample.foreign.foreign_folder import make_foreign

    sizes = recorded_sizes(DatasetFolder.open(like).rows()) if like is not None else []
    chosen = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    with _progress(count) as progress:
        card = make_foreign(count, drawing.out, kinds=chosen, sizes=sizes, **drawing.options(progress))
    drawn = ", ".join(f"{number:,} {kind}" for kind, number in card.settings["kinds"].items())
    console.print(f"{card.rows:,} foreign images in {drawing.out}: {drawn}", highlight=False)


@app.command("check")
def check_command(
    real: Annotated[str, typer.Argument(help="The real table: whatever data build reads, or a data set folder.")],
    sample: Annotated[Path, typer.Argument(help="The sample made from it.")],
    holdout: Annotated[
        str | None,
        typer.Option(help="Real rows the sample was not learned from; a data set folder brings its own (split test)."),
    ] = None,
) -> None:
    """Say how alike and how private a sample is: fidelity, rules, copies, nearness to the real rows.

    Needs the extra 'check' (sdmetrics). Exit code 1 when a real title, code, address or image was copied.

    Example: phisight sample check real.csv data/imitation
    """
    from rich.table import Table

    from phisight.sample.like.fidelity import check

    report = check(_real_table(real), sample, holdout=_real_table(holdout) if holdout is not None else None)
    table = Table("", "figure", "what it means", title=f"{sample} beside {real}")
    for line in report.lines():
        table.add_row(line.name, line.figure, line.meaning)
    console.print(table)
    if report.copied:
        raise typer.Exit(1)


def _real_table(name: str) -> Path | RealTable:
    """The table to learn from: a data set folder by its path, anything else as ``data build`` reads it."""
    from phisight.core.dataset_folder import CARD, METADATA
    from phisight.data.sources.layouts.open import open_source
    from phisight.data.values.plain_columns import plain_columns
    from phisight.sample.like.real_table import table_of_columns

    path = Path(name)
    if (path / CARD).is_file() or (path / METADATA).is_file():
        return path
    return table_of_columns(plain_columns(open_source(name)), name)


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[int], None]]:
    with progress_bar() as bar:
        task = bar.add_task("drawing", total=rows, note="")
        yield lambda done: bar.advance(task, done)


def _print_card(card: SampleCard, out: Path) -> None:
    console.print(f"{card.rows:,} products of {card.designs:,} designs in {out}", highlight=False)
    if card.best_price_median_ape is not None:
        console.print(
            f"best possible price error: {card.best_price_median_ape:.2%} in the median "
            "(the price rule knows everything but the noise; see sample.json)",
            highlight=False,
        )
    if card.rejected:
        console.print(
            f"{card.rejected:,} more rows lack a field of the task: rejects.jsonl names them", highlight=False
        )
    for kind, count in card.faults.items():
        console.print(f"planted {count:,} x {kind}", highlight=False)
    if card.faults:
        console.print("every planted fault is listed in faults.jsonl", highlight=False)
