"""``phisight doctor``: what this machine can do, and whether a recipe can run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phisight.cli.screen import Overrides, console, quiet_libraries

MARKS = {"ok": "[green]ok   [/green]", "note": "[yellow]note [/yellow]", "wrong": "[red]wrong[/red]"}


def doctor_command(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE.yaml]", help="Recipe to look at as well.")] = None,
    overrides: Overrides = None,
) -> None:
    """Look at this machine before a run: card, driver, bfloat16, attention, memory, disk, and the recipe's files.

    One line each, with the repair; exit code 1 where something would stop the run.

    Example: phisight doctor recipes/phi35-vision-lora.yaml
    """
    from phisight.core.recipe import load_recipe
    from phisight.workflows.doctor import examine

    quiet_libraries()
    wrong = 0
    for one in examine(load_recipe(recipe, overrides or []) if recipe else None):
        repair = f" -> {one.repair}" if one.repair else ""
        console.print(f"{MARKS[one.verdict]} {one.about:16}", end="")
        console.print(f"{one.text}{repair}", markup=False, highlight=False, soft_wrap=True)
        wrong += one.verdict == "wrong"
    if wrong:
        raise typer.Exit(1)
