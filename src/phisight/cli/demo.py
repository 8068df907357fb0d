"""``phisight demo``: the whole chain offline, on a CPU; ``phisight tiny-base``: how its base model is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from phisight.cli.evaluate import show_scores
from phisight.cli.screen import AnswerBars, Bar, Overrides, TrainingBar, console, errors, progress_bar, quiet_libraries
from phisight.cli.train import show_prepared

if TYPE_CHECKING:
    from phisight.workflows.plan import Plan


base_app = typer.Typer(help="How the base model of the package is made; see make tiny-base.", no_args_is_help=True)


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
    start: Annotated[
        Literal["nothing", "tiny-base"],
        typer.Option(help="nothing: train everything; tiny-base: adapters on the small base that comes with phisight."),
    ] = "tiny-base",
    quick: Annotated[bool, typer.Option("--quick", help="A few steps, only to see that it runs.")] = False,
    overrides: Overrides = None,
) -> None:
    """The whole chain offline on a CPU: draw products, train a tiny model, evaluate, report, export, ask it.

    Takes about three and a half minutes on two cores, five from nothing (the README has both figures). It fails if
    the trained model does not name the category of as many unseen products as it should.
    """
    from phisight.workflows.demo import QUICK_ROWS, ROWS, DemoCallbacks, require_category_accuracy, run_demo

    quiet_libraries()
    with progress_bar() as progress:
        drawing = Bar(progress, "drawing", ROWS if not quick else QUICK_ROWS)
        callbacks = DemoCallbacks(
            stage=lambda text: errors.print(f"[bold]{text}[/bold]"),
            drawing=drawing.advance,
            planned=_show_plan,
            prepared=show_prepared,
            precomputing=Bar(progress, "tower features").reach,
            training=TrainingBar(progress),
            answering=AnswerBars(progress),
        )
        result = run_demo(out, callbacks, start=start, quick=quick, overrides=overrides)
    show_scores(result.scores)
    if not quick:
        table = Table("", "measured", "threshold", "")
        for name, figure, threshold, reached in result.thresholds():
            table.add_row(name, f"{figure:.3f}", f"{threshold:.2f}", "reached" if reached else "MISSED")
        console.print(table)
    took = ", ".join(f"{name} {seconds:.0f}" for name, seconds in result.seconds.items())
    console.print(f"Seconds: {took}; {sum(result.seconds.values()):.0f} in all.", highlight=False)
    console.print(f"Report: [bold]{result.report}[/bold]  Scores: [bold]{result.run / 'scores.json'}[/bold]")
    console.print(f"Model for others: [bold]{result.export}[/bold]  What it says of {result.image.name}:")
    typer.echo(json.dumps({"image": str(result.image), **result.answer}))
    if not quick:
        require_category_accuracy(result)


def _show_plan(made: Plan) -> None:
    here = made.devices[0]
    errors.print(
        f"{made.rows} rows, {made.steps} steps of {made.batch.examples}, at most {made.batch.tokens} tokens each, "
        f"{made.memory[made.chosen].peak / 1e9:.2f} GB at the peak; reckoned {here.duration.hours * 60:.1f} minutes on "
        f"{here.speed.name}",
        highlight=False,
    )


@base_app.command("start")
def start_command(out: Annotated[Path, typer.Option(help="Folder to write.")]) -> None:
    """Write tokenizer and random weights: what recipes/tiny-base.yaml starts from."""
    from phisight.workflows.pretrain_base import untrained_base

    quiet_libraries()
    console.print(f"untrained base in {untrained_base(out)}", highlight=False)


@base_app.command("select")
def select_command(
    captions: Annotated[Path, typer.Argument(help="Folder of phisight sample make --preset captions.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier one in --out.")] = False,
) -> None:
    """Write the drawings whose pattern is easy to see as a data set folder of their own."""
    from phisight.sample.captions.selection import select_easy

    console.print(f"{select_easy(captions, out, overwrite=overwrite)} drawings in {out}", highlight=False)


@base_app.command("pack")
def pack_command(
    run: Annotated[Path, typer.Argument(help="The run of recipes/tiny-base.yaml, or a checkpoint of it.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Write the trained base as it comes with the package: bfloat16 weights, tokenizer, processor, card."""
    from phisight.workflows.pretrain_base import pack_base

    quiet_libraries()
    for name, figure in pack_base(run, out).items():
        console.print(f"{name}: {figure}", highlight=False)
