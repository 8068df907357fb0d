"""A run to a folder that others load.

what it is -> weights merged -> configuration, processor, number head, task file -> compared with the run -> card -> hub
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from phisight.core.errors import (
    DataError,
    EvaluationError,
    PhisightError,
    RunError,
    SettingsError,
    TaskError,
)
from phisight.core.read_files import read_object
from phisight.core.run_folder import UNFAMILIAR, write_json, write_text_atomically
from phisight.core.settings import ModelSettings, Recipe
from phisight.core.task import Task
from phisight.evaluate import read_rows
from phisight.export.compare import Observation, answer, drawn_rows, greedy_logits, observed, require_equal
from phisight.export.describe import facts_of, task_file_for
from phisight.export.merge import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapters
from phisight.export.model_card import CARD_FILE, model_card
from phisight.export.model_folder import (
    REMOTE_CODE,
    copy_familiarity,
    copy_number_head,
    read_config,
    require_reachable,
    write_processor,
)
from phisight.export.origins import Origin, Origins
from phisight.export.publish import publish_model, require_repository_name
from phisight.export.subject import Subject, data_of_run, subject_of
from phisight.export.task_file import TaskFile
from phisight.export.write import require_free, whole_or_not_at_all, write_model
from phisight.generate import Predictor, Request, load_rgb, number_writer
from phisight.model.number_head import NUMBER_HEAD
from phisight.train.acceleration.freed_memory import return_freed_blocks, trim_memory
from phisight.workflows.load import load_model
from phisight.workflows.predict import grammar_of

COMPARED_ROWS = 10
ADAPTER_ROWS = 2
"""Rows that adapters alone are compared on: another base, a wrong scale or a name that PEFT lacks shows in each."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ExportDtype = Literal["float32", "bfloat16", "float16"]
Announce = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What an export made."""

    folder: Path
    compared: str
    """How it was compared with its run; empty where that was not asked for."""
    address: str | None
    """Where it stands on the hub, if it was pushed."""


def export_model(
    run: str | Path,
    out: str | Path,
    *,
    adapter: bool = False,
    dtype: ExportDtype | None = None,
    remote_code: bool = False,
    push: str | None = None,
    private: bool = True,
    rows: int = COMPARED_ROWS,
    announce: Announce = lambda _: None,
) -> Exported:
    """Write a model that others load into a new folder.

    Args:
        run: Run folder, or a folder of adapters.
        out: The folder to write; it must not exist, or be empty.
        adapter: Write PEFT's adapters alone, not merged.
        dtype: Type of the weights; None keeps the one that was scored.
        remote_code: Name the hub's own code in the configuration, for programs without phisight.
        push: OWNER/NAME on the hub to upload to.
        private: Whether a repository made for it is private.
        rows: Rows that the export and the run both answer before the export counts.
        announce: Called with what happens, as it happens.

    Raises:
        SettingsError: A folder that holds something, or options that contradict each other.
        CheckpointError: Parts that do not fit, or an export that answers differently from its run.
        StorageError: No room.
    """
    folder = Path(out)
    if dtype is not None and dtype not in DTYPES:
        raise SettingsError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    if not require_free(folder):
        raise SettingsError(f"{folder} is there already and not empty; name another folder with --out")
    if adapter and (dtype or remote_code):
        raise SettingsError("--adapter copies the adapters as they are; leave out --dtype and --remote-code")
    if push:
        require_repository_name(push)
    subject = subject_of(run)
    require_reachable(subject.weights, subject.revision)
    with whole_or_not_at_all(folder) as partial:
        if adapter:
            compared = _write_adapters(subject, partial, folder, rows, announce, pushed=bool(push))
        else:
            compared = _write_whole(subject, partial, dtype, rows, announce, remote_code=remote_code)
    address = None
    if push:
        announce(f"Uploading to {push}")
        address = publish_model(folder, push, private=private)
    return Exported(folder, compared, address)


def _write_adapters(subject: Subject, out: Path, final: Path, rows: int, announce: Announce, *, pushed: bool) -> str:
    if subject.adapters is None:
        raise SettingsError(
            f"{subject.name} holds whole weights and no adapters (a tiny model, or train.method full or projector); "
            "export it without --adapter"
        )
    if subject.under:
        raise SettingsError(
            f"{subject.name} holds adapters that go onto other adapters ({subject.under[-1]}), which no other program "
            "loads; export it without --adapter"
        )
    local = Path(subject.weights).is_dir()
    base = str(Path(subject.weights).resolve()) if local else subject.weights
    settings = read_object(subject.adapters / ADAPTER_CONFIG)
    settings |= {"base_model_name_or_path": base, "revision": subject.revision}
    write_json(out / ADAPTER_CONFIG, settings)
    shutil.copyfile(subject.adapters / ADAPTER_WEIGHTS, out / ADAPTER_WEIGHTS)
    Adapters.read(out)
    write_processor(subject.processor, out, **subject.processor_hub)
    copy_number_head(subject.file(NUMBER_HEAD), out)
    copy_familiarity(subject.file(UNFAMILIAR), out)
    task_file = task_file_for(subject)
    task_file.write(out)
    Origins(model=Origin.of(base, final)).write(out)
    compared = _compared(subject, out, task_file, min(rows, ADAPTER_ROWS), announce) if rows else ""
    write_text_atomically(out / CARD_FILE, model_card(facts_of(subject, task_file.task, compared=compared)))
    if local and pushed:
        announce(f"Their base is a folder of this machine ({base}): whoever loads them from the hub needs it, too.")
    return compared


def _write_whole(
    subject: Subject, out: Path, dtype: ExportDtype | None, rows: int, announce: Announce, *, remote_code: bool
) -> str:
    task, scored = task_file_for(subject), _scored_dtype(subject)
    chosen = DTYPES[dtype] if dtype else scored
    announce(f"Merging {subject.adapters} into {subject.weights}" if subject.adapters else f"Copying {subject.weights}")
    write_model(subject, out, chosen, loaded=scored, remote_code=remote_code)
    trim_memory()
    task.write(out)
    compared = _compared(subject, out, task, rows, announce) if rows else ""
    name = str(chosen).removeprefix("torch.")
    code = REMOTE_CODE if remote_code else ""
    facts = facts_of(subject, task.task, dtype=name, compared=compared, remote_code=code)
    write_text_atomically(out / CARD_FILE, model_card(facts))
    return compared


def _scored_dtype(subject: Subject) -> torch.dtype:
    """The type that the run's model has in memory when it is evaluated."""
    asked = subject.recipe.model.dtype if subject.recipe else "auto"
    if asked != "auto":
        return DTYPES[asked]
    dtype = read_config(subject.weights, **subject.hub).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _compared(subject: Subject, out: Path, task: TaskFile, rows: int, announce: Announce) -> str:
    """Ask the run and the export about the same rows, one after the other, each in a process of its own.

    Adapters alone are asked on their base, by PEFT, for what greedy decoding writes: a number head is none of PEFT's.
    """
    settings = subject.recipe.model if subject.recipe else ModelSettings()
    alone = (out / ADAPTER_CONFIG).is_file()
    theirs = settings.model_copy(update={"revision": subject.revision} if alone else {"dtype": "auto"})
    with tempfile.TemporaryDirectory() as scratch:
        asked = _rows_of_data(subject, task.task, rows)
        drawn = not asked
        if drawn:
            asked = drawn_rows(Path(scratch), rows)
        announce(f"Asking the run, then the {'adapters on their base' if alone else 'export'}, about {len(asked)} rows")
        same: dict[str, Any] = {
            "rows": [[str(image) for image in images] for images in asked],
            "task": task.model_dump(mode="json"),
            "written": alone,
        }
        run = {**same, "subject": subject.name, "adapters": None, "model": settings.model_dump(mode="json")}
        export = {**same, "subject": str(out), "adapters": None, "model": theirs.model_dump(mode="json")}
        if alone:
            export |= {"subject": subject.weights, "adapters": str(out)}
        mine, exported = observed([run, export], __name__, Path(scratch))
        agreement = require_equal(mine, exported, task.task, [images[0].name for images in asked])
    by = " Loaded by PEFT onto their base." if alone else ""
    return agreement + by + (" The data set was not at hand: the images were drawn." if drawn else "")


def _rows_of_data(subject: Subject, task: Task, count: int) -> list[list[Path]]:
    """Images of the first rows of the run's data set; of its training split only where the others hold too few."""
    if subject.recipe is None or subject.run is None:
        return []
    recipe: Recipe = subject.recipe
    there: list[list[Path]] = []
    for split in ("validation", "test", "train"):
        if len(there) >= count:
            break
        try:
            found = read_rows(
                data_of_run(subject.run, recipe), task, split, limit=count, seed=recipe.seed,
                images=recipe.data.images,
            )  # fmt: skip
        except (DataError, EvaluationError, RunError, TaskError):
            continue
        images = [[path for path in row.images if isinstance(path, Path)] for row in found.rows]
        there += [paths for paths in images if paths and all(path.is_file() for path in paths)]
    return there[:count]


def _observe(asked: dict[str, Any]) -> None:
    """The other side of ``observed``."""
    return_freed_blocks()
    file, rows = TaskFile.model_validate(asked["task"]), [[Path(image) for image in row] for row in asked["rows"]]
    settings = ModelSettings.model_validate(asked["model"])
    model, processor = load_model(asked["subject"], settings)
    if asked["adapters"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, asked["adapters"])
    model.eval()
    dtype = str(model.dtype).removeprefix("torch.")
    most = file.max_new_tokens if dtype == "float32" else 1
    logits = [
        greedy_logits(model, processor, file.task.prompt, [load_rgb(image) for image in row], most) for row in rows
    ]
    texts = _written(processor, logits) if asked["written"] else _answered(model, processor, file, rows)
    Observation(dtype, texts, logits).write(Path(asked["out"]))


def _written(processor: Any, logits: Sequence[torch.Tensor]) -> list[str]:
    """What greedy decoding writes, without anything that phisight adds."""
    return [processor.decode(row.argmax(-1), skip_special_tokens=True) for row in logits]


def _answered(model: Any, processor: Any, file: TaskFile, rows: Sequence[Sequence[Path]]) -> list[str]:
    """Answers as the run is scored: held to the template where it is, numbers decided as it decides them."""
    task, most = file.task, file.max_new_tokens
    predictor = Predictor(
        model,
        processor,
        batch_size=1,
        max_new_tokens=most,
        grammar=grammar_of(model, processor, task, file.limits, most)
        if file.constrained and file.limits_suffice
        else None,
        numbers=number_writer(file.numbers, task, processor.tokenizer),
    )
    texts = dict(predictor.answers([Request(task.prompt, list(row)) for row in rows]))
    return [texts[row] for row in range(len(rows))]


if __name__ == "__main__":
    try:
        answer(json.load(sys.stdin), _observe)
    except PhisightError as problem:
        sys.exit(str(problem))
