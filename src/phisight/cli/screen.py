"""What the command line shows: results on standard output, progress bars and errors on standard error."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table

from phisight.core.environment import rank, world_size
from phisight.core.errors import MemoryLimitError, PhisightError, StorageError

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, as in --set train.learning_rate=1e-4."),
]
"""The option ``--set`` of every command that reads a recipe."""
WeightType = Annotated[
    Literal["auto", "float32", "bfloat16"], typer.Option(help="Type of the weights; auto is the one that was scored.")
]
"""The option ``--dtype`` of every command that answers."""

_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")
UNCUT = 400
"""Columns of a table where no terminal shows it."""


class SafeConsole(Console):
    """A console that shows text from data without its control characters, so that no escape sequence is passed on.

    Colors and cursor movements of rich itself are styles and control segments, not text.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, the control characters of their text replaced; line ends and tabs stay."""
        for segment in super().render(renderable, options):
            clean = segment.text.translate(_CONTROLS) if not segment.control else segment.text
            yield segment if clean == segment.text else Segment(clean, segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does; a table in a pipe or a file is as wide as its figures: there is no edge to cut them at."""
        tables = any(isinstance(one, Table) for one in objects)
        if tables and self.width < UNCUT and not self.is_terminal and "COLUMNS" not in os.environ:
            SafeConsole(file=self.file, width=UNCUT).print(*objects, **options)
            return
        super().print(*objects, **options)


console = SafeConsole()
errors = SafeConsole(stderr=True)


def fail(error: Exception) -> NoReturn:
    """Print an error as one line and exit with its ``exit_code``, 1 where it has none."""
    errors.print("error:" if world_size() == 1 else f"error in process {rank()}:", style="bold red", end=" ")
    errors.print(" ".join(str(error).split()), markup=False, highlight=False, soft_wrap=True)
    sys.exit(getattr(error, "exit_code", 1))


def notice(line: str) -> None:
    """Print a line that a person should read, beside the results."""
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


def command_line(context: typer.Context, added: Sequence[str]) -> str:
    """The command as it was given, with further options, ready for a shell; what ``--header`` holds is left out."""
    parts = ["phisight", *context.command_path.split()[1:]]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "argument":
                parts.append(str(one))
            elif isinstance(one, bool):
                parts.append((parameter.opts if one else parameter.secondary_opts)[0])
            else:
                parts += [parameter.opts[0], "..." if parameter.opts[0] == "--header" else str(one)]
    return shlex.join([*parts, *added])


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
    """Turn off the progress bars and warnings of the libraries, which would break up ours."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


class Bar:
    """One progress bar, which appears with its first update."""

    def __init__(self, progress: Progress, name: str, total: int | None = None, unit: str = "") -> None:
        self._progress = progress
        self._name = name
        self._total = total
        self._unit = unit
        self._task: Any = None
        self._began = (0.0, 0)

    def reach(self, done: int, total: int) -> None:
        """``done`` of ``total``, which is 0 where nobody knows it."""
        if self._task is None:
            self._began = (self._progress.get_time(), done)  # what an earlier process had done is no part of the speed
        self._show()
        note = ", ".join(part for part in (self._speed(done), "" if total else "of an unknown number") if part)
        self._progress.update(self._task, completed=done, total=total or None, note=note)

    def _speed(self, done: int) -> str:
        seconds, more = self._progress.get_time() - self._began[0], done - self._began[1]
        return f"{more / seconds:.1f} {self._unit}" if self._unit and more and seconds > 0 else ""

    def advance(self, more: int) -> None:
        """``more`` are done."""
        self._show()
        self._progress.advance(self._task, more)

    def _show(self) -> None:
        if self._task is None:
            self._task = self._progress.add_task(self._name, total=self._total, note="")


class AnswerBars:
    """A progress bar for each image condition."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, Bar] = {}

    def __call__(self, condition: str, done: int, total: int) -> None:
        """``done`` of ``total`` answers."""
        if condition not in self._bars:
            name = "base model" if condition == "base_model" else f"{condition} images"
            self._bars[condition] = Bar(self._progress, name, unit="answers/s")
        self._bars[condition].reach(done, total)


class TrainingBar:
    """Steps, loss and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: Any = None

    def begin(self, steps: int) -> None:
        """See ``TrainingCallback``."""
        self._task = self._progress.add_task("training", total=steps, note="")

    def step(self, step: int) -> None:
        """See ``TrainingCallback``."""
        self._progress.update(self._task, completed=step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See ``TrainingCallback``."""
        name = next((name for name in ("loss", "eval_loss") if name in metrics), None)
        if name and step:
            self._progress.update(self._task, note=f"{name.replace('_', ' ')} {metrics[name]:.3f}")


_NO_MEMORY = re.compile(
    r"could not create a primitive|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|"
    r"can't start new thread|failed to map segment|unable to mmap|failed to allocate|out of memory",
    re.IGNORECASE,
)
"""How oneDNN, torch, the C++ library, Python's threads, the loader of libraries and Arrow say that there is no more."""
_REPAIRS = {
    errno.EROFS: "name a place that can be written, with --out or HF_HOME",
    errno.EACCES: "take the rights to it, or name another place",
    errno.EPERM: "take the rights to it, or name another place",
    errno.ENOSPC: "make room and give the same command again",
    errno.EDQUOT: "make room and give the same command again",
}


def refused_by_the_system(error: BaseException) -> PhisightError | None:
    """The named error of what the system refused; None where it is something else."""
    said = " ".join(str(error).split())[:160] or type(error).__name__
    lacks = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if lacks or (isinstance(error, RuntimeError | OSError | ImportError) and _NO_MEMORY.search(str(error))):
        return MemoryLimitError(
            f"the system gives no more memory ({said}); free some or raise its limit (ulimit -v), lower batch size, "
            "workers or threads, or take a smaller model"
        )
    if isinstance(error, OSError) and (repair := _REPAIRS.get(error.errno or 0)):
        return StorageError(f"{error.filename or 'a file'}: {error.strerror}; {repair}")
    return None
