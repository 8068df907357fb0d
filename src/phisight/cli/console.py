"""Where the command line prints: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from phisight.core.rank import rank, world_size

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, as in --set train.learning_rate=1e-4."),
]
"""The option ``--set`` of every command that reads a recipe."""

console = Console()
errors = Console(stderr=True)


def fail(error: Exception) -> NoReturn:
    """Print an error as one line and exit with its code, 1 unless it says another."""
    errors.print("error:" if world_size() == 1 else f"error in process {rank()}:", style="bold red", end=" ")
    errors.print(" ".join(str(error).split()), markup=False, highlight=False, soft_wrap=True)
    sys.exit(getattr(error, "exit_code", 1))


def progress_bar() -> Progress:
    """A bar with counts, time spent and time left, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
    )


def quiet_libraries() -> None:
    """Bars and advice of the libraries would stand between ours."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
