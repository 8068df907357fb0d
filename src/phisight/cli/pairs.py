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
    images: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Ask about these images, which have no answers.")
    ] = None,
    agreement: Annotated[
        float, typer.Option(help="With --images: share of the answers that must agree to count as true.")
    ] = 0.7,
) -> None:
    """Sample answers to the training rows and pair the truth with what the model got wrong, field by field.

    With --images, what most answers say stands for the truth. Rows that are always answered right give no pair. Train
    on the folder with preference.pairs=DIR.

    Example: phisight pairs make runs/tiny --out data/pairs --samples 8
    """
    from phisight.workflows.pairs.make_pairs import Sampling, make_pairs

    quiet_libraries()
    with progress_bar() as bar:
        task = bar.add_task("rows answered", total=None, note="")
        made = make_pairs(
            run,
            out,
            Sampling(samples, temperature, seed, rows, images),
            agreement=agreement,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            notify=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
        )
    for name, count in made.pairs.items():
        console.print(f"{count:7,} pairs  {name}", highlight=False)
    right = "always answered the same way" if images else "always right"
    parts = [f"{made.always_right:,} rows were {right} and give none"]
    if images:
        parts.append(f"the answers to {made.undecided:,} agree in no field")
        parts.append(f"{made.held_back:,} of the validation or test split were not asked about")
    parts.append(f"{made.failed:,} images could not be read")
    parts.append(f"{made.unwritable:,} wrong values do not fit into the answer's template")
    console.print(
        f"{sum(made.pairs.values()):,} pairs of {made.rows:,} rows in {out}; {', '.join(parts)}",
        highlight=False,
        soft_wrap=True,
    )


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="hf:OWNER/NAME", help="Hub data set with TRL's columns.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
) -> None:
    """Fetch pairs from the hub: columns images, prompt, chosen, rejected. Train with preference.pairs=DIR.

    Rows of other splits than train are left out, and pairs that show one of their products. What training cannot use
    is said when it reads the folder.

    Example: phisight pairs fetch hf:OWNER/NAME --out data/pairs
    """
    from phisight.data.dataset.hub_pairs import fetch_pairs

    with progress_bar() as bar:
        task = bar.add_task("rows read", total=None, note="")
        made = fetch_pairs(name, out, lambda rows: bar.update(task, completed=rows))
    for sentence in made.left_out[:5]:
        errors.print(f"left out: {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{made.pairs:,} pairs in {out}; {made.other_splits:,} rows are in other splits than train, {made.held_back:,} "
        f"pairs show a product of theirs, the images of {len(made.left_out):,} cannot be used",
        highlight=False,
        soft_wrap=True,
    )
