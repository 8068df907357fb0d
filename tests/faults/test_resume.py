"""Killed at any moment and started again, a run ends as if nothing had happened, bit for bit."""

import json
import random
import shutil
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from phisight.core.settings import Recipe
from phisight.workflows.train import train
from tests.helpers.ranks import free_port, train_as
from tests.helpers.small_run import curve, weights

KILLS = 20
STATE = ("optimizer.pt", "scheduler.pt", "trained.safetensors", "progress.json")

Child = Callable[..., BaseProcess]


def left_behind(run: Path) -> tuple[list[dict[str, Any]], dict[str, list[Any]], dict[str, Any]]:
    """Curve, best weights, and the hashes of all that the last checkpoint holds of the run's state."""
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    files = json.loads((last / "manifest.json").read_text())["files"]
    values = {name: value.flatten().view(torch.uint8).tolist() for name, value in weights(run).items()}
    return curve(run), values, {name: files[name] for name in STATE}


def writes(run: Path, since: float) -> bool:
    """A checkpoint is being written, by a process that was started at ``since``."""
    try:
        return (run / "checkpoints" / ".partial").stat().st_mtime > since
    except FileNotFoundError:
        return False


def finished_before(processes: list[BaseProcess], moment: Callable[[], bool]) -> bool:
    """Wait until ``moment``, then kill; true when the processes had ended by themselves."""
    while not moment():
        if not any(process.is_alive() for process in processes):
            break
        time.sleep(0.002)
    ended = all(not process.is_alive() for process in processes)
    for process in processes:
        process.kill()
        process.join()
    if ended:
        assert [process.exitcode for process in processes] == [0] * len(processes)
    return ended


def while_writing(run: Path, delay: float) -> Callable[[], bool]:
    """The moment ``delay`` after a process that starts now begins to write a checkpoint."""
    begun = time.time()
    seen: list[float] = []

    def moment() -> bool:
        if not seen and writes(run, begun):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= delay

    return moment


def moments(draw: random.Random, run: Path, whole: float) -> Callable[[], bool]:
    """A moment of the run's time, or one within the writing of a checkpoint."""
    if draw.random() < 0.5:
        return while_writing(run, draw.uniform(0.0, 0.15))
    after = time.monotonic() + draw.uniform(0.0, 1.1 * whole)
    return lambda: time.monotonic() > after


def test_killed_twenty_times(child: Child, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Start-up, steps in the middle of an epoch and of an accumulation, evaluation, checkpoints: killed anywhere."""
    wanted = recipe(workers=2)
    child(train, wanted).join()  # the first child waits for imports
    shutil.rmtree(wanted.out)
    begun = time.monotonic()
    child(train, wanted).join()
    whole = time.monotonic() - begun
    expected = left_behind(wanted.out)
    assert len(expected[0]) == 10  # 6 lines of training, 4 of validation
    shutil.rmtree(wanted.out)

    draw, kills, in_writing, rounds = random.Random(0), 0, 0, 0
    while kills < KILLS or not rounds:
        begun = time.time()
        process = child(train, wanted, resume=True)
        last = kills >= KILLS
        ended = finished_before([process], (lambda: False) if last else moments(draw, wanted.out, whole))
        if ended:
            assert left_behind(wanted.out) == expected
            shutil.rmtree(wanted.out)
            rounds += 1
        else:
            kills += 1
            in_writing += writes(wanted.out, begun)
    assert in_writing > 0
    child(train, wanted, resume=True).join()
    assert left_behind(wanted.out) == expected


def test_two_processes_killed(child: Child, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    def start(run: Recipe) -> list[BaseProcess]:
        port = free_port()
        return [child(train_as, rank, 2, port, run, resume=True) for rank in range(2)]

    undisturbed, disturbed = (recipe(workers=1, accumulate=1).model_copy(update={"out": tmp_path / n}) for n in "ab")
    assert finished_before(start(undisturbed), lambda: False)
    draw = random.Random(1)
    for delay in (0.0, 0.05, draw.uniform(0.05, 0.5)):
        finished_before(start(disturbed), while_writing(disturbed.out, delay))
    assert finished_before(start(disturbed), lambda: False)
    assert left_behind(disturbed.out) == left_behind(undisturbed.out)
