"""``phisight report``: one self-contained page about runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from phisight.cli.screen import console


def report_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print the page to a PDF beside it (needs Chromium).")] = False,
) -> None:
    """Write one self-contained page about a run: figures, curves, images with truth and answer.

    Example: phisight report runs/products
    """
    from phisight.report import report_json, write_pdf, write_report

    if as_json:
        typer.echo(json.dumps(report_json(runs), indent=2, ensure_ascii=False))
        return
    page = write_report(runs)
    console.print(f"Report: [bold]{write_pdf(page) if pdf else page}[/bold]")
