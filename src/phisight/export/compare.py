"""Whether an exported model answers as its run does.

    float32           logits behind prompt and answer within 1e-4, or 1e-5 of the largest; greedy answers equal
    bfloat16, float16 parsed fields of every row equal, and its first logits correlate by 0.99

Each side is observed in a process of its own, so that one model is in memory at a time: forks of one fresh
process, which has imported what both need.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from phisight.core.errors import CheckpointError, PhisightError, some
from phisight.core.task import Task

LOGIT_TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-5
"""Most that logits may differ, and as a share of the row's largest: adapters beside a layer and merged into it round
otherwise, by some last places of a number of 24 bits."""
LEAST_CORRELATION = 0.99
"""Of the first logits of an answer in 16 bits. Rounding leaves 0.999; equal fields alone may be those that any model of
the task gives, where answers are held to the template, or none at all."""


@dataclass(frozen=True)
class Observation:
    """What a model wrote about some rows."""

    dtype: str
    texts: list[str]
    """Answers, numbers decided as the run decides them."""
    logits: list[Tensor]
    """For each row the logits float32[tokens, V] that its answer was chosen from; in 16 bits those of one token."""

    def write(self, path: Path) -> None:
        """Store it; ``read`` gives it back."""
        values = {f"logits_{row}": value.contiguous() for row, value in enumerate(self.logits)}
        texts = {f"text_{row}": text for row, text in enumerate(self.texts)}
        save_file(values, path, {"dtype": self.dtype, "rows": str(len(self.texts)), **texts})

    @classmethod
    def read(cls, path: Path) -> Observation:
        """An observation that another process has stored."""
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            rows = range(int(about["rows"]))
            held = set(file.keys())
            logits = [file.get_tensor(f"logits_{row}") for row in rows if f"logits_{row}" in held]
        return cls(about["dtype"], [about[f"text_{row}"] for row in rows], logits)


def observed(questions: Sequence[Mapping[str, Any]], module: str, folder: Path) -> list[Observation]:
    """What models (``subject`` of each question) answer, found by a module in fresh processes; noted in ``folder``.

    Two models are never in memory together, and what is loaded is what lies on disk.
    """
    notes = [folder / f"observed-{number}" for number in range(len(questions))]
    asked = [{**question, "out": str(note)} for question, note in zip(questions, notes, strict=True)]
    done = subprocess.run(  # noqa: S603 - a module of phisight's own
        [sys.executable, "-m", module],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        if done.returncode < 0:
            last = f"signal {-done.returncode} ended it; was memory too little for one model?"
        subject = next((one["subject"] for one in asked if not Path(one["out"]).is_file()), asked[-1]["subject"])
        raise CheckpointError(f"{subject} cannot be loaded and asked in a fresh process: {last[:400]}")
    return [Observation.read(note) for note in notes]


def answer(questions: Sequence[dict[str, Any]], observe: Callable[[dict[str, Any]], None]) -> None:
    """The other side of ``observed``: each question in a fork of this process, which has imported what they need.

    Ends as the first fork that fails.
    """
    for question in questions:
        if not hasattr(os, "fork"):
            observe(question)
            continue
        fork = os.fork()
        if not fork:
            _end_after(lambda: observe(question))  # noqa: B023 - called at once
        code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
        if code < 0:
            signal.raise_signal(-code)
        if code:
            sys.exit(code)


def _end_after(work: Callable[[], None]) -> NoReturn:
    """End this fork: 0, or 1 with the reason as the last line of stderr."""
    code = 1
    try:
        work()
        code = 0
    except PhisightError as problem:
        print(problem, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


@torch.no_grad()
def greedy_logits(model: Any, processor: Any, prompt: str, images: Sequence[Image.Image], most: int) -> Tensor:
    """Logits float32[tokens, V] that one greedy answer is chosen from; one row a call, so that nothing is padded."""
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=text, images=list(images) or None, return_tensors="pt")
    placed = {
        name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
        for name, value in inputs.items()
    }
    found = model.generate(
        **placed, max_new_tokens=most, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return torch.cat([step.float().cpu() for step in found.logits])


def drawn_rows(folder: Path, count: int) -> list[list[Path]]:
    """Images of noise on a gradient, each of another shape, stored in a folder."""
    rows = []
    for row in range(count):
        draw = np.random.default_rng(row)
        height, width = (int(side) for side in draw.integers(80, 400, size=2))
        slope = np.linspace(0, 255, width)[None, :, None] * draw.random(3)
        pixels = np.clip(slope + draw.normal(0, 40, (height, width, 3)), 0, 255).astype(np.uint8)
        path = folder / f"drawn-{row}.png"
        Image.fromarray(pixels).save(path)
        rows.append([path])
    return rows


def require_equal(run: Observation, export: Observation, task: Task, rows: Sequence[str]) -> str:
    """What was compared, as a sentence for the card; CheckpointError names the first row that differs.

    Args:
        run: The model that was scored.
        export: The exported folder, loaded in a fresh process.
        task: Reads the fields.
        rows: A name for each row.
    """
    count, in_16_bits, unread = len(rows), {run.dtype, export.dtype} != {"float32"}, 0
    for row, (answer, exported) in enumerate(zip(run.texts, export.texts, strict=True)):
        read, again = task.parse(answer).values, task.parse(exported).values
        unread += read is None and again is None
        if read != again or (read is None and not in_16_bits and answer != exported):
            raise CheckpointError(
                f"the export answers differently from its run on {rows[row]}: {exported[:80]!r} for {answer[:80]!r}; "
                f"{_repair(run, export)}"
            )
    if in_16_bits:
        least = 1.0
        for name, left, right in zip(rows, run.logits, export.logits, strict=True):
            least = min(alike := _correlation(left, right), least)
            if not alike >= LEAST_CORRELATION:  # no number, too
                raise CheckpointError(
                    f"the export is not the model of its run: on {name} the first logits correlate by {alike:.3f} in "
                    f"{export.dtype}, at least {LEAST_CORRELATION} is due; {_repair(run, export)}"
                )
        about = f" ({unread} of them could be read from neither)" if unread else ""
        return (
            f"Compared with its run in {export.dtype}: parsed fields of {count} rows equal{about}, first logits "
            f"correlated by at least {least:.3f}."
        )
    largest, most = 0.0, LOGIT_TOLERANCE
    for row, (left, right) in enumerate(zip(run.logits, export.logits, strict=True)):
        gap = float((left - right).abs().max()) if left.shape == right.shape else float("inf")
        allowed = max(LOGIT_TOLERANCE, RELATIVE_TOLERANCE * float(left.abs().max()))
        largest, most = max(largest, gap), max(most, allowed)
        if run.texts[row] != export.texts[row] or not (math.isfinite(gap) and gap <= allowed):
            raise CheckpointError(
                f"the export is not the model of its run: on {rows[row]} logits differ by {gap:.2g}, at most "
                f"{allowed:.1g} is allowed; {_repair(run, export)}"
            )
    return (
        f"Compared with its run in float32: greedy answers of {count} rows equal, logits within {largest:.1e} "
        f"({most:.1g} allowed)."
    )


def _correlation(left: Tensor, right: Tensor) -> float:
    """Of the first logits of two answers; of another vocabulary 0."""
    if left[0].shape != right[0].shape:
        return 0.0
    return float(torch.corrcoef(torch.stack([left[0], right[0]]).double())[0, 1])


def _repair(run: Observation, export: Observation) -> str:
    if run.dtype != export.dtype:
        return f"the run was scored in {run.dtype} and this is {export.dtype}: export it with --dtype {run.dtype}"
    return "nothing was exported; were base or checkpoint changed since the run was scored?"


def equal_layout(written: Mapping[str, tuple[int, ...]], model: Mapping[str, tuple[int, ...]]) -> None:
    """CheckpointError unless names and shapes of the written tensors are those of the model."""
    missing, unknown = sorted(set(model) - set(written)), sorted(set(written) - set(model))
    shapes = sorted(name for name in set(model) & set(written) if tuple(model[name]) != tuple(written[name]))
    if missing or unknown or shapes:
        raise CheckpointError(
            f"what was merged is not this model: {len(missing)} tensors missing, {len(unknown)} unknown, {len(shapes)} "
            f"of another shape ({some([*missing, *unknown, *shapes])}); is config.json the one of these weights?"
        )
