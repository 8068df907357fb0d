"""``phisight pairs``: pairs of answers for preference training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phisight.cli.screen import console, errors, progress_bar, quiet_libraries

app = typer.Typer(help="Make pairs of answers for preference training.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make pairs of answers for preference training."""


@app.command("make")
def make_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run whose model answers its training rows.")],
    out: Annotated[Path, typer.Option(help="Folder to write; one that was stopped continues.")],
    samples: Annotated[int, typer.Option(help="Sampled answers to each row.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of the sampling; the higher, the more the answers differ.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the sampling, and of the rows where --rows is given.")] = 0,
    rows: Annotated[int | None, typer.Option(min=1, help="Training rows to ask about; all by default.")] = None,
) -> None:
    """Sample answers to the training rows and pair the truth with what the model got wrong, field by field.

    Rows that are always answered right give no pair. Train on the folder with preference.pairs=DIR.

    Example: phisight pairs make runs/tiny --out data/pairs --samples 8
    """
    from phisight.workflows.pairs import Sampling, make_pairs

    quiet_libraries()
    with progress_bar() as bar:
        task = bar.add_task("rows answered", total=None, note="")
        made = make_pairs(
            run,
            out,
            Sampling(samples=samples, temperature=temperature, seed=seed, rows=rows),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            notify=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
        )
    for name, count in made.pairs.items():
        console.print(f"{count:7,} pairs  {name}", highlight=False)
    console.print(
        f"{sum(made.pairs.values()):,} pairs of {made.rows:,} rows in {out}; {made.always_right:,} rows were always "
        f"right and give none, {made.failed:,} images could not be read, {made.unwritable:,} wrong values do not fit "
        "into the answer's template",
        highlight=False,
        soft_wrap=True,
    )
