"""``phisight predict``: answers about images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from phisight.cli.screen import console, quiet_libraries


def predict_command(
    run: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder; a model or adapters with --data.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images to ask about.")],
    data: Annotated[
        Path | None, typer.Option(help="Data set folder whose task a MODEL that is no run is asked.")
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="The images show one product: one answer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask a trained model about images.

    Example: phisight predict runs/products photo.jpg
    """
    from phisight.workflows.predict import predict

    quiet_libraries()
    for image, answer in predict(run, images, together=together, data=data):
        if as_json:
            line = {"image": str(image), "answer": answer.text, "fields": answer.values, "reason": answer.reason}
            typer.echo(json.dumps(line, ensure_ascii=False))
        else:
            note = f"  (not read: {answer.reason})" if answer.reason else ""
            console.print(f"{image}: {answer.text}{note}", markup=False, highlight=False, soft_wrap=True)
