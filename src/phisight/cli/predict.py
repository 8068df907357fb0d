"""``phisight predict``: answers about images, on the screen or into a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from phisight.cli.screen import Bar, WeightType, console, errors, notice, progress_bar, quiet_libraries
from phisight.core.errors import SettingsError

if TYPE_CHECKING:
    from phisight.extraction.answer import Answer
    from phisight.extraction.results import Predicted

Engine = Literal["local", "ray", "openai"]
Bits = Literal["8bit", "4bit"]


def predict_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, an export, adapters, or a hub name.")],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Images, a folder, glob, table or address; - reads a list of names."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="FILE.csv, .jsonl or .parquet; without it answers are printed.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data set whose task a MODEL without a task file is asked.")] = None,
    column: Annotated[
        str | None, typer.Option("--image-column", help="Column of a table that holds the images.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--image-root", help="Folder that paths of a table start from; else the table's.")
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Rows below it go into FILE.review beside FILE.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Answers in the making at once; on a CPU, on each core.")] = 32,
    workers: Annotated[int, typer.Option(min=1, help="Threads that fetch and decode images.")] = 2,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Also fetch from addresses that are not public.")
    ] = False,
    engine: Annotated[Engine, typer.Option(help="Who answers: this process, a Ray cluster, or a server.")] = "local",
    url: Annotated[str | None, typer.Option(help="Server of --engine openai, as in http://localhost:8000/v1.")] = None,
    served_model: Annotated[
        str | None, typer.Option(help="The model's name on that server; else the first it lists.")
    ] = None,
    ray_workers: Annotated[
        int | None, typer.Option(min=1, help="Models on the cluster; else one for each GPU, or each node.")
    ] = None,
    quantize: Annotated[
        Bits | None, typer.Option(help="Decoder in 8 or 4 bits (docs/prediction.md: what it costs).")
    ] = None,
    dtype: WeightType = "auto",
    together: Annotated[bool, typer.Option("--together", help="The images show one product: one answer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Ask a trained model about images: typed fields with confidence.

    A prediction into a file that was stopped or killed continues when the same command is given again; an image that
    cannot be used is one row with an error.

    Examples:
        phisight predict runs/products photo.jpg
        phisight predict runs/products photos --out fields.csv --min-confidence 0.8
        find photos -name "*.jpg" | phisight predict runs/products - --out fields.jsonl
    """
    from phisight.data.fetch.limits import FetchLimits
    from phisight.extraction.results import require_writable
    from phisight.workflows.extract import EngineOptions, open_extractor, predict_images, predict_into

    if together and out is not None:
        raise SettingsError("--together is one answer about one product; leave --out out")
    if out is not None:  # before the model is loaded
        require_writable(out, sources, overwrite=overwrite)
    elif min_confidence is not None:
        raise SettingsError("--min-confidence sends rows into a review file; name the other one with --out")
    quiet_libraries()
    options = EngineOptions(engine, quantize, dtype, url, served_model, ray_workers)
    extractor = open_extractor(model, options, data=data, notify=notice)
    reading: dict[str, Any] = {"column": column, "root": root, "fetch": FetchLimits(allow_private=allow_private)}
    reading |= {"batch_size": batch_size, "workers": workers}
    if out is None:
        unanswered = 0
        for name, answer in predict_images(extractor, sources, together=together, **reading):
            _show(name, answer, as_json=as_json)
            unanswered += not answer.text
        if unanswered:
            raise typer.Exit(1)
        return
    with progress_bar() as progress:
        bar = Bar(progress, "predicting", unit="images/s")
        done = predict_into(
            extractor, sources, out, min_confidence=min_confidence, overwrite=overwrite, progress=bar.reach, **reading
        )
    _summarize(done)


def _summarize(done: Predicted) -> None:
    if done.errors:
        errors.print(f"{done.errors} rows have an error; see the column error.", highlight=False)
    review = f"  To review: [bold]{done.review}[/bold] ({done.review_rows} rows)" if done.review else ""
    console.print(f"Answers: [bold]{done.out}[/bold] ({done.rows} rows){review}")


def _show(name: str, answer: Answer, *, as_json: bool) -> None:
    if as_json:
        line = {
            "image": name,
            "answer": answer.text,
            "fields": answer.json() if answer.ok else None,
            "confidence": answer.confidence,
            "interval": answer.interval,
            **({} if answer.unfamiliar is None else {"unfamiliar": answer.unfamiliar}),
            "reason": answer.error,
        }
        typer.echo(json.dumps(line, ensure_ascii=False))
        return
    if not answer.ok:
        note = f"{answer.text}  ({answer.error})" if answer.text else answer.error
        to, mark = (console, "") if answer.text else (errors, "error: ")
        to.print(f"{mark}{name}: {note}", markup=False, highlight=False, soft_wrap=True)
        return
    fields = []
    for field, value in answer.items():
        about = [f"{answer.confidence[field]:.0%}"] if field in answer.confidence else []
        about += ["{:g} to {:g}".format(*answer.interval[field])] if field in answer.interval else []
        shown = answer.task.fields[field].write(value) if answer.task is not None else value
        fields.append(f"{field}: {shown}" + (f" ({', '.join(about)})" if about else ""))
    fields += [f"unlike the training images ({answer.unfamiliar:.2f})"] if answer.is_unfamiliar else []
    console.print(f"{name}: {'; '.join(fields)}", markup=False, highlight=False, soft_wrap=True)
