"""``phisight demo``: the whole chain offline, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from phisight.cli.evaluate import show_scores
from phisight.cli.screen import AnswerBars, Bar, Overrides, TrainingBar, console, errors, progress_bar, quiet_libraries
from phisight.cli.train import show_prepared


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Under two minutes, only to see that it runs.")] = False,
    overrides: Overrides = None,
) -> None:
    """The whole chain offline on a CPU: draw products, train a tiny model, evaluate it, write the report.

    Takes about ten minutes on two cores, and fails if the trained model does not name the category of 95 % of products
    that it has never seen.
    """
    from phisight.workflows.demo import QUICK_ROWS, ROWS, DemoCallbacks, require_category_accuracy, run_demo

    quiet_libraries()
    with progress_bar() as progress:
        drawing = Bar(progress, "drawing", ROWS if not quick else QUICK_ROWS)
        callbacks = DemoCallbacks(
            stage=lambda text: errors.print(f"[bold]{text}[/bold]"),
            drawing=drawing.advance,
            prepared=show_prepared,
            training=TrainingBar(progress),
            answering=AnswerBars(progress),
        )
        result = run_demo(out, callbacks, quick=quick, overrides=overrides)
    show_scores(result.scores)
    if not quick:
        table = Table("", "measured", "threshold", "")
        for name, figure, threshold, reached in result.thresholds():
            table.add_row(name, f"{figure:.3f}", f"{threshold:.2f}", "reached" if reached else "MISSED")
        console.print(table)
    console.print(f"Report: [bold]{result.report}[/bold]  Scores: [bold]{result.run / 'scores.json'}[/bold]")
    if not quick:
        require_category_accuracy(result)
