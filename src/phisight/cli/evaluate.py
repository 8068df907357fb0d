"""``phisight evaluate``: of a run, or of any model on a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from phisight.cli.screen import AnswerBars, Overrides, console, progress_bar, quiet_libraries


def evaluate_command(
    subject: Annotated[
        str,
        typer.Argument(metavar="RUN|MODEL", help="Folder that `phisight train` wrote, a model folder or a hub name."),
    ],
    data: Annotated[Path | None, typer.Option(help="Data set folder; default: the run's own.")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test; default: as in the recipe.")] = None,
    rows: Annotated[int | None, typer.Option(help="Answer only so many rows (default: all).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results of a MODEL; a RUN keeps its own.")] = None,
    base_model_rows: Annotated[
        int,
        typer.Option(
            "--base-model-rows",
            "--before-rows",
            min=0,
            help="Rows of a RUN that the base model (before training) answers, too; 0: none.",
        ),
    ] = 100,
    constrained: Annotated[
        bool | None,
        typer.Option("--constrained/--free", help="Allow only answers of the template (default: as in the recipe)."),
    ] = None,
    foreign: Annotated[
        str | None,
        typer.Option(help="Also answer images that show nothing of the task: 'drawn', or a folder of them."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Let a model answer about images it was not trained on, and score the answers.

    Every answer is generated; the truth is only used to score it. More passes show each row another row's image, one
    of another category and a blank one: what stays right then was not read off the image. A run's answers are
    compared with those of its base model.

    Examples:
        phisight evaluate runs/products --split test
        phisight evaluate microsoft/Phi-3.5-vision-instruct --data data/products --out runs/base
    """
    from phisight.core.errors import SettingsError
    from phisight.core.recipe import changed, recipe_from
    from phisight.export.subject import is_run, read_run
    from phisight.workflows.evaluate import evaluate_model, evaluate_run
    from phisight.workflows.results_folder import results_folder

    quiet_libraries()
    run = Path(subject)
    changes = {"split": split, "rows": rows, "constrained": constrained, "foreign": foreign}
    with progress_bar() as progress:
        bars = AnswerBars(progress)
        if is_run(run):
            if out is not None:
                raise SettingsError(f"{run} is a run and keeps its own results; --out is for a model that is no run")
            recipe = read_run(run, overrides or [])
            settings = changed(recipe.evaluate, **changes)
            results = results_folder(run, read_run(run), settings, data or recipe.data.path)
            scores = evaluate_run(
                run, data=data, settings=settings, track=recipe.track, base_model_rows=base_model_rows, progress=bars
            )
        elif data is None or out is None:
            raise SettingsError(
                f"{subject} is no run folder; to evaluate it as a model, add --data DIR (a data set folder) and "
                "--out DIR (for the results)"
            )
        else:
            values = {"out": str(out), "model": {"name": subject}, "data": {"path": str(data)}}
            recipe = recipe_from(values, overrides or [], source="the command line")
            recipe = recipe.model_copy(update={"evaluate": changed(recipe.evaluate, **changes)})
            scores, results = evaluate_model(recipe, progress=bars), out
    show_scores(scores)
    console.print(f"Scores: [bold]{results / 'scores.json'}[/bold]. Next: phisight report {results}")


def show_scores(scores: Mapping[str, Any]) -> None:
    """The main figures, with real and with shuffled images, and of the base model."""
    columns = {"shuffled": "shuffled images", "base_model": "base model"}
    others = {key: scores[key] for key in columns if key in scores}
    table = Table("", "real images", *(columns[key] for key in others), title="Answers")
    wanted = ("parse_rate", "_accuracy", "_exact", "_mae", "_median_ape")
    for name, value in scores.items():
        if name.endswith(wanted) and isinstance(value, (int, float)):
            found = [other.get(name) for other in others.values()]
            table.add_row(name, f"{value:.3f}", *("" if other is None else f"{other:.3f}" for other in found))
    console.print(table)
    for line in limit_lines(scores):
        console.print(f"- {line}", highlight=False)
    for line in scores.get("verdict", {}).get("lines", []):
        console.print(f"- {line}", highlight=False)


def limit_lines(scores: Mapping[str, Any]) -> list[str]:
    """What the model does with foreign and with unfamiliar images, a sentence for each figure."""
    foreign, unfamiliar = scores.get("foreign") or {}, scores.get("unfamiliar") or {}
    said = [
        ("foreign images get a value invented", foreign.get("invented")),
        ("real images are refused", scores.get("refused")),
        ("foreign images are unlike the training images", unfamiliar.get("foreign")),
        ("real images are unlike the training images", unfamiliar.get("real")),
    ]
    return [
        f"{one['share']:.1%} ({one['interval'][0]:.1%} to {one['interval'][1]:.1%}) of {one['of']} {what}"
        for what, one in said
        if one and one["share"] is not None
    ]
