"""``phisight export``: a run to a folder that others load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from phisight.cli.screen import console, errors, quiet_libraries

if TYPE_CHECKING:
    from phisight.workflows.export import ExportDtype


def export_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or a folder of adapters.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be new or empty.")],
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapters alone, in PEFT's format.")] = False,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; by default the type that was scored.")
    ] = None,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to the hub as well.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    remote_code: Annotated[
        bool, typer.Option("--remote-code", help="Name the hub's own code in config.json (published sizes only).")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, help="Rows that run and export both answer before it counts.")] = 10,
) -> None:
    """Merge a run into one checkpoint in the official layout, with processor, task file and model card.

    The export is loaded again in a fresh process and must answer as the run does, or nothing is written.

    Example: phisight export runs/products --out models/products
    """
    from phisight.workflows.export import export_model

    quiet_libraries()
    done = export_model(
        run,
        out,
        adapter=adapter,
        dtype=cast("ExportDtype | None", dtype),
        remote_code=remote_code,
        push=push,
        private=not public,
        rows=rows,
        announce=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    if done.compared:
        errors.print(done.compared, highlight=False, soft_wrap=True)
    console.print(f"Exported: [bold]{done.folder}[/bold]" + (f"  Hub: {done.address}" if done.address else ""))
