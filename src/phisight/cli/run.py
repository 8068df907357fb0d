"""``phisight plan | train | predict | report | demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from phisight.cli.bars import AnswerBars, Bar, TrainingBar
from phisight.cli.console import Overrides, console, errors, progress_bar, quiet_libraries
from phisight.cli.evaluate import show_scores
from phisight.core.errors import SettingsError
from phisight.core.rank import is_first

if TYPE_CHECKING:
    from phisight.workflows.train import Prepared


def train_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Settings of the run; see recipes/.")],
    overrides: Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder where it stopped, or begin it.")
    ] = False,
) -> None:
    """Fine-tune a model on a data set folder as a recipe says.

    A run that was stopped, killed or interrupted by an error goes on with --resume from its newest good checkpoint,
    exactly as if it had never stopped. Several devices: torchrun --nproc-per-node N -m phisight train RECIPE.yaml

    Example: phisight train recipes/tiny-cpu.yaml --set data.path=data/products --set out=runs/products
    """
    from phisight.core.recipe import load_recipe
    from phisight.workflows.train import train

    quiet_libraries()
    loaded = load_recipe(recipe, overrides or [])
    if overwrite and resume:
        raise SettingsError("--overwrite replaces a run and --resume goes on with it; say one of the two")
    with progress_bar() as progress:
        run = train(
            loaded,
            announce=show_prepared,
            progress=TrainingBar(progress),
            filling=Bar(progress, "tower features").reach,
            say=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
            overwrite=overwrite,
            resume=resume,
        )
    if is_first():
        console.print(f"Trained: [bold]{run}[/bold]. Next: phisight evaluate {run}")


def plan_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Settings of the run; see recipes/.")],
    overrides: Overrides = None,
) -> None:
    """Tell what a run will take before it runs: tokens of a picture, steps, memory of each method on one device.

    Example: phisight plan recipes/tiny-cpu.yaml --set data.path=data/products
    """
    from phisight.core.recipe import load_recipe
    from phisight.workflows.plan import plan

    quiet_libraries()
    made = plan(load_recipe(recipe, overrides or []))
    pictures = Table("most crops", "tokens, median", "largest", title="Tokens of a picture")
    for one in made.pictures:
        mark = " (this recipe)" if one.num_crops == made.num_crops else ""
        pictures.add_row(f"{one.num_crops}{mark}", f"{one.median:,}", f"{one.largest:,}")
    console.print(pictures)
    console.print(
        f"{made.rows} samples and {made.steps_per_epoch} steps an epoch, {made.steps} steps in all; longest sample "
        f"{made.batch.tokens:,} tokens; {made.padding:.1%} of tokens are padding.",
        highlight=False,
    )
    names = ("weights", "gradients", "optimiser", "activations", "head", "peak")
    memory = Table(
        Column("method", no_wrap=True), *names, title=f"GB on one device, {made.batch.examples} samples a micro-batch"
    )
    for method, needs in made.memory.items():
        mark = " (this recipe)" if method == made.chosen else ""
        memory.add_row(method + mark, *(f"{getattr(needs, name) / 1e9:.2f}" for name in names))
    console.print(memory)


def predict_command(
    run: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder; a model or adapters with --data.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to ask about.")],
    data: Annotated[
        Path | None, typer.Option(help="Data set folder whose task a MODEL that is no run is asked.")
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="The pictures show one product: one answer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask a trained model about pictures.

    Example: phisight predict runs/products photo.jpg
    """
    from phisight.workflows.evaluate import predict

    quiet_libraries()
    for image, answer in predict(run, images, together=together, data=data):
        if as_json:
            line = {"image": str(image), "answer": answer.text, "fields": answer.values, "reason": answer.reason}
            typer.echo(json.dumps(line, ensure_ascii=False))
        else:
            note = f"  (not read: {answer.reason})" if answer.reason else ""
            console.print(f"{image}: {answer.text}{note}", markup=False, highlight=False, soft_wrap=True)


def report_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print the page to a PDF beside it (needs Chromium).")] = False,
) -> None:
    """Write one self-contained page about a run: figures, curves, pictures with truth and answer.

    Example: phisight report runs/products
    """
    from phisight.report import report_json, write_pdf, write_report

    if as_json:
        typer.echo(json.dumps(report_json(runs), indent=2, ensure_ascii=False))
        return
    page = write_report(runs)
    console.print(f"Report: [bold]{write_pdf(page) if pdf else page}[/bold]")


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Under two minutes, only to see that it runs.")] = False,
    overrides: Overrides = None,
) -> None:
    """The whole chain offline on a CPU: draw products, train a tiny model, ask it, write the report.

    Takes about ten minutes on two cores, and fails if the trained model does not name the category of 95 % of products
    that it has never seen.
    """
    from phisight.workflows.demo import QUICK_ROWS, ROWS, Listeners, require_category_bar, run_demo

    quiet_libraries()
    with progress_bar() as progress:
        drawing = Bar(progress, "drawing", ROWS if not quick else QUICK_ROWS)
        listeners = Listeners(
            stage=lambda text: errors.print(f"[bold]{text}[/bold]"),
            drawing=drawing.advance,
            prepared=show_prepared,
            training=TrainingBar(progress),
            answering=AnswerBars(progress),
        )
        outcome = run_demo(out, listeners, quick=quick, overrides=overrides)
    show_scores(outcome.scores)
    if not quick:
        table = Table("", "measured", "bar", "")
        for name, figure, bar, reached in outcome.bars():
            table.add_row(name, f"{figure:.3f}", f"{bar:.2f}", "reached" if reached else "MISSED")
        console.print(table)
    console.print(f"Report: [bold]{outcome.report}[/bold]  Scores: [bold]{outcome.run / 'scores.json'}[/bold]")
    if not quick:
        require_category_bar(outcome)


def show_prepared(prepared: Prepared) -> None:
    """What trains and what the image check found, before the first step."""
    table = Table("part", "trained", "frozen", title="Parameters")
    for part in prepared.parts:
        table.add_row(part.part, f"{part.trained:,}", f"{part.frozen:,}")
    trained, frozen = (sum(getattr(part, kind) for part in prepared.parts) for kind in ("trained", "frozen"))
    table.add_row("all", f"{trained:,}", f"{frozen:,}", style="bold")
    errors.print(table)
    check = prepared.check
    errors.print(
        f"{prepared.train_rows} training rows, {prepared.validation_rows} validation rows, {prepared.left_out} left "
        f"out as too long. Image check: loss {check.real:.4f}, with exchanged pictures {check.exchanged:.4f}, with "
        f"blank ones {check.blank:.4f}: the picture reaches the loss. {prepared.features}",
        highlight=False,
    )
