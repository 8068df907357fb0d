"""The report: one HTML page that needs nothing but itself.

Style sheet, script, figures and images are within the page, and its content security policy forbids everything else:
no request leaves it, and no script but its own runs, whatever a title holds.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from markupsafe import Markup

from phisight import __version__
from phisight.core import run_folder
from phisight.core.errors import PhisightError, RunError
from phisight.report import advice, figure_tables, first_screen, gallery, view
from phisight.report.collect import MAX_IMAGES, RunData, collect
from phisight.report.limits_view import limits


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of one or more run folders; returns its path.

    Args:
        runs: Run folders; the first one's name stands at the top.
        out: Where to; None means ``default_path``.

    Raises:
        RunError: A folder is no run folder, or a file in it is damaged.
    """
    with damage_named(runs):
        html = render(_collect(runs))
    path = out or default_path(runs)
    run_folder.write_text_atomically(path, html)
    return path


@contextmanager
def damage_named(runs: Sequence[Path]) -> Iterator[None]:
    """RunError of one line where the files of a run hold something else than what training and evaluation write."""
    try:
        yield
    except PhisightError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, OSError, TemplateError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise RunError(
            f"the files of {', '.join(map(str, runs))} do not hold what training and evaluation write ({reason}); "
            "restore them, or evaluate the run again"
        ) from error


def default_path(runs: Sequence[Path]) -> Path:
    """report.html in the run folder; of several runs a page of their own beside the first one."""
    if len(runs) == 1:
        return runs[0] / run_folder.REPORT
    names = list(dict.fromkeys(run.resolve().name for run in runs))
    return runs[0].resolve().parent / f"report-{'-'.join(names)}.html"


def report_json(runs: Sequence[Path]) -> dict[str, Any]:
    """What the report says, without images, for programs."""
    with damage_named(runs):
        collected = _collect(runs)
    return {
        "format": "phisight-report/1",
        "runs": [
            {
                "name": run.name,
                "verdict": view.verdict(run),
                "scores": run.scores,
                "summary": run.summary,
                "curves": run.curves,
                "config": run.config,
                "environment": run.environment,
                "dataset": run.card,
                "missing": run.missing,
            }
            for run in collected
        ],
    }


def _collect(runs: Sequence[Path]) -> list[RunData]:
    if not runs:
        raise RunError("no run folder named; say which: phisight report RUN [RUN ...]")
    return [collect(run, MAX_IMAGES // len(runs)) for run in runs]


def render(runs: Sequence[RunData]) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("phisight.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_source(name) for name in ("page.css", "page.js"))
    return environment.get_template("page.html.jinja").render(
        version=__version__,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(script),
        title=" · ".join(first_screen.title(run) for run in runs),
        runs=[_run_view(run) for run in runs],
        comparison=figure_tables.comparison(runs) if len(runs) > 1 else [],
        curves=view.curve_figures(runs) if len(runs) > 1 else [],
    )


def _source(name: str) -> str:
    return (files("phisight.report") / "templates" / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Content security policy: images within the page, our script by its hash, nothing from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    )


def _run_view(run: RunData) -> dict[str, Any]:
    cards, verdict = gallery.cards(run), view.verdict(run)
    return {
        "name": run.name,
        "title": first_screen.title(run),
        "about": first_screen.about(run),
        "missing": run.missing,
        "chips": first_screen.chips(run, verdict),
        "lead": first_screen.lead(run, verdict),
        "lines": first_screen.remarks(run, verdict),
        "figures": first_screen.figures(run),
        "twelve": [
            {"title": part["title"], "cards": [gallery.card(run, shown) for shown in part["rows"]]}
            for part in first_screen.examples(run)
        ],
        "worst_categories": advice.worst_categories(run),
        "confused": [
            {**pair, "rows": [gallery.card(run, shown) for shown in pair["rows"]]}
            for pair in advice.confused_pairs(run)
        ],
        "next_steps": advice.next_steps(run),
        "tolerance": round(100 * gallery.tolerance(run)),
        "tests": first_screen.tests(run, verdict),
        "ends": gallery.level_of_ends(run),
        "grid": gallery.GRID,
        "groups": run.scores.get("groups"),
        "table": figure_tables.metric_table(run),
        "forced": "teacher_forced" in run.scores,
        "before": figure_tables.before_title(run.scores) if "base_model" in run.scores else "",
        "curves": view.curve_figures([run]),
        "steps": run.steps,
        "examples": gallery.examples(run),
        "cards": cards,
        "categories": sorted({card["category"] for card in cards if card["category"]}),
        "fields": run.task.names if run.task else [],
        "answered": run.answered,
        "numbers": view.number_figures(run),
        "by_category": figure_tables.category_table(run),
        "confusions": figure_tables.confusions(run),
        "reliability": figure_tables.reliability_table(run),
        "limits": limits(run.scores),
        "facts": view.facts(run),
    }
