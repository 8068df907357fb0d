"""``phisight train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from phisight.cli.screen import Bar, Overrides, TrainingBar, console, errors, progress_bar, quiet_libraries
from phisight.core.environment import is_first
from phisight.core.errors import SettingsError

if TYPE_CHECKING:
    from phisight.workflows.train import Prepared


def train_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Settings of the run; see recipes/.")],
    overrides: Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder where it stopped, or begin it.")
    ] = False,
) -> None:
    """Fine-tune a model on a data set folder by a recipe.

    A run that was stopped, killed or interrupted by an error continues with --resume from its newest good checkpoint,
    exactly as if it had never stopped; with --resume --set train.steps=+500 a finished one goes on for 500 steps more.
    Several devices: torchrun --nproc-per-node N -m phisight train RECIPE.yaml

    Example: phisight train recipes/tiny-cpu.yaml --set data.path=data/products --set out=runs/products
    """
    from phisight.core.recipe import load_recipe, split_more_steps
    from phisight.workflows.train import train

    quiet_libraries()
    plain, more_steps = split_more_steps(overrides or [])
    loaded = load_recipe(recipe, plain)
    if overwrite and resume:
        raise SettingsError("--overwrite replaces a run and --resume continues it; give one of the two")
    with progress_bar() as progress:
        run = train(
            loaded,
            announce=show_prepared,
            progress=TrainingBar(progress),
            precomputing=Bar(progress, "tower features").reach,
            notify=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
            overwrite=overwrite,
            resume=resume,
            more_steps=more_steps,
        )
    if is_first():
        console.print(f"Trained: [bold]{run}[/bold]. Next: phisight evaluate {run}")


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
        f"out as too long. Image check: loss {check.real:.4f}, with exchanged images {check.exchanged:.4f}, with "
        f"blank ones {check.blank:.4f}: the image reaches the loss. {' '.join(map(str, prepared.caches))}",
        highlight=False,
    )
