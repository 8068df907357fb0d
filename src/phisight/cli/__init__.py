"""The command line: parse, call a workflow, print. One file a group of commands.

A command imports what it runs inside its function, so that ``phisight --help`` starts without torch.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

import typer

from phisight import __version__
from phisight.cli import data, demo, doctor, evaluate, export, pairs, plan, predict, report, sample, serve, train
from phisight.cli.screen import console, fail, refused_by_the_system
from phisight.core.errors import PhisightError

SPINS = "1000"
"""How often a waiting thread looks before it sleeps."""
KERNELS = "200"
"""Kernels that oneDNN keeps."""

app = typer.Typer(
    name="phisight",
    help="Fine-tune Phi-3-Vision on a table of images and fields, and prove that the result looks at the image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"phisight {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Options that stand before every command."""


app.command("demo")(demo.demo_command)
app.add_typer(sample.app, name="sample")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor_command)
app.add_typer(pairs.app, name="pairs")
app.command("plan")(plan.plan_command)
app.command("train")(train.train_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("predict")(predict.predict_command)
app.command("report")(report.report_command)
app.command("export")(export.export_command)
app.command("serve")(serve.serve_command)
app.add_typer(demo.base_app, name="tiny-base", hidden=True)


def set_process_defaults() -> None:
    """How threads wait for each other, and how many kernels oneDNN keeps; what the user has set stays.

    Threads spin for some microseconds, then sleep. Spinning on, as GNU's OpenMP does, makes a busy machine twenty times
    slower. Sleeping at once, as other OpenMPs can only be told, takes a small model's step as long on two cores as on
    one: it waits a thousand times. Kernels are made for one shape each, and shapes differ from batch to batch: 1,024 of
    them, oneDNN's default, take a quarter of the demo's memory.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT=SPINS)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)


def main() -> None:
    """Entry point: a user's error is one line and exit code 1, a traceback only with ``--debug``."""
    set_process_defaults()
    # PEFT imports bitsandbytes, which warns of missing kernels, and reads a deprecated attribute.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="phisight")
    except PhisightError as error:
        if debug:
            raise
        fail(error)
    except Exception as error:
        named = refused_by_the_system(error)
        if debug or named is None:
            raise
        fail(named)
