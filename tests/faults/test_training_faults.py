"""What goes wrong around a run ends it with one line that names it, or with a checkpoint saved."""

import errno
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.cli.screen import fail
from phisight.core.errors import (
    ChangedImageError,
    DatasetError,
    MemoryLimitError,
    NonFiniteLossError,
    PhisightError,
    StoppedError,
    StorageError,
)
from phisight.core.settings import Recipe
from phisight.train.checkpoint import manifest
from phisight.train.shutdown import GracefulShutdown
from phisight.train.training_run import TrainingRun
from phisight.workflows.train import train
from tests.helpers.ranks import free_port, train_as
from tests.helpers.small_run import curve, weights

Build = Callable[..., Recipe]


class At:
    """Does something once, after a step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.wanted = step
        self.action = action

    def begin(self, steps: int) -> None:
        pass

    def step(self, step: int) -> None:
        if step == self.wanted:
            self.action()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        pass


def one_line(error: pytest.ExceptionInfo[PhisightError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def steps_of(run: Path) -> list[int]:
    return manifest.checkpoint_steps(run / "checkpoints")


def assert_goes_on(recipe: Recipe, out: Path) -> None:
    """Going on gives what an undisturbed run gives."""
    train(recipe, resume=True)
    undisturbed = recipe.model_copy(update={"out": out})
    train(undisturbed)
    assert curve(recipe.out) == curve(out)
    assert all(value.equal(weights(out)[name]) for name, value in weights(recipe.out).items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(number: signal.Signals, recipe: Build, tmp_path: Path) -> None:
    wanted = recipe(steps=6, save_every=6, evaluate_every=3)
    with pytest.raises(StoppedError) as error:
        train(wanted, progress=At(3, lambda: os.kill(os.getpid(), number)))
    assert one_line(error) == f"stopped by {number.name}: the checkpoint of step 3 is saved; continue with --resume"
    assert error.value.exit_code == 128 + number
    assert steps_of(wanted.out) == [3]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert_goes_on(wanted, tmp_path / "undisturbed")


def test_the_exit_code_says_the_signal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        fail(StoppedError("stopped by SIGTERM: saved", signal.SIGTERM))
    assert end.value.code == 143
    with pytest.raises(SystemExit) as end:
        fail(StorageError("no room"))
    assert end.value.code == 1
    assert capsys.readouterr().err.splitlines() == ["error: stopped by SIGTERM: saved", "error: no room"]


def test_a_second_signal_stops_at_once(recipe: Build) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StoppedError, match="second signal, so nothing more is saved"):
        train(recipe(), progress=At(2, twice))
    assert steps_of(recipe().out) == []


def test_a_step_that_does_not_end() -> None:
    def endless() -> None:
        with GracefulShutdown(grace=0.05):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(StoppedError, match=r"the step did not end within 0\.05 s, so nothing more is saved"):
        endless()


def test_two_processes_stop_at_one_step(child: Callable[..., BaseProcess], recipe: Build) -> None:
    """Only one of them is asked."""
    wanted = recipe(accumulate=1, steps=100_000, save_every=100_000, evaluate_every=None, workers=1)
    port = free_port()
    processes = [child(train_as, rank, 2, port, wanted) for rank in range(2)]
    while not (wanted.out / "metrics.jsonl").exists():
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    processes[1].terminate()
    for process in processes:
        process.join(60)
    told = [(wanted.out.with_suffix(".errors") / str(rank)).read_text() for rank in range(2)]
    (step,) = steps_of(wanted.out)
    assert (
        told
        == [f"StoppedError: stopped by SIGTERM: the checkpoint of step {step} is saved; continue with --resume"] * 2
    )


def test_a_full_disk_at_a_checkpoint(recipe: Build, tmp_path: Path) -> None:
    """The size of files is limited below that of the optimizer's; torch names the fault in its own words."""
    wanted = recipe(steps=6)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limited = At(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1])))
    try:
        with pytest.raises(StorageError) as error:
            train(wanted, progress=limited)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, kept)
    assert "the checkpoint of step 6 cannot be written to" in one_line(error)
    assert "GB are free); the checkpoint of step 3 remains; free space" in one_line(error)
    assert steps_of(wanted.out) == [3]
    assert_goes_on(wanted, tmp_path / "undisturbed")


def test_a_full_disk_at_a_line_of_metrics(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if path.name == "metrics.jsonl" and mode == "ab":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match=r"metrics.jsonl cannot be written \(No space left on device\): make room"):
        train(recipe())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_that_vanishes(workers: int, recipe: Build, own_data: Path) -> None:
    wanted = recipe(workers=workers)
    wanted.data.path = own_data
    wanted.data.keep_pixels_gb = 0
    with pytest.raises(DatasetError) as error:
        train(wanted, progress=At(4, lambda: shutil.rmtree(own_data)))
    assert one_line(error).startswith(f"the data set folder {own_data} is missing")
    assert steps_of(wanted.out) == [3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_that_breaks(workers: int, recipe: Build, own_data: Path) -> None:
    broken: list[Path] = []

    def tear() -> None:
        for path in (own_data / "images").rglob("*.jpg"):
            path.write_bytes(path.read_bytes()[:200])
            broken.append(path)

    wanted = recipe(workers=workers)
    wanted.data.path = own_data
    wanted.data.keep_pixels_gb = 0
    with pytest.raises(ChangedImageError) as error:
        train(wanted, progress=At(4, tear))
    assert any(str(path) in one_line(error) for path in broken)


def test_a_worker_that_dies(child: Callable[..., BaseProcess], recipe: Build) -> None:
    wanted = recipe(steps=100_000, save_every=100_000, evaluate_every=None, workers=1)
    process = child(train_as, 0, 1, free_port(), wanted)
    while not (wanted.out / "metrics.jsonl").exists():
        assert process.is_alive()
        time.sleep(0.01)
    for worker in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(worker), signal.SIGKILL)
    process.join(60)
    assert process.exitcode == 1
    told = (wanted.out.with_suffix(".errors") / "0").read_text()
    assert told.startswith("WorkerError: a data loading worker died (")
    assert told.endswith("lower data.workers (now 1), then continue with --resume")


@pytest.mark.parametrize(
    ("train_settings", "told"),
    [
        ({"batch_size": 8}, "lower train.batch_size from 8 to 4 and raise train.accumulate from 2 to 4"),
        ({"batch_size": 1}, "set train.gradient_checkpointing to true"),
        ({"batch_size": 1, "gradient_checkpointing": True}, "lower model.num_crops or data.max_length"),
    ],
)
def test_memory_runs_out(
    train_settings: dict[str, Any], told: str, recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs_of = TrainingRun.inputs_of

    def grown(self: TrainingRun, batch: dict[str, Any]) -> Any:
        if self.state.global_step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")
        return inputs_of(self, batch)

    monkeypatch.setattr(TrainingRun, "inputs_of", grown)
    with pytest.raises(MemoryLimitError) as error:
        train(recipe(evaluate_every=None, **train_settings))
    assert one_line(error).startswith("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert told in one_line(error)


def test_a_loss_that_is_no_number_names_its_rows(recipe: Build, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the micro-batch that was being computed: the second one of the second epoch's first step."""
    seen: list[list[list[int]]] = []
    add_loss = TrainingRun.add_loss

    def broken(self: TrainingRun, loss: torch.Tensor, index: int, batch: dict[str, Any]) -> None:
        seen.append(batch["input_ids"].tolist())
        add_loss(self, loss * float("nan") if len(seen) == 12 else loss, index, batch)

    monkeypatch.setattr(TrainingRun, "add_loss", broken)
    with pytest.raises(NonFiniteLossError) as error:
        train(recipe(evaluate_every=None, save_every=50, steps=50))
    told = one_line(error)
    assert "the loss is nan at step 6 (batch of 2 examples" in told
    from phisight.data.dataset.folder import DatasetFolder

    rows = DatasetFolder.open(data).rows("train")
    named = [place for place, row in enumerate(rows) if f"{row['file_name']} (row {place})" in told]
    assert len(named) == 2
    answers = {row["title"] for place, row in enumerate(rows) if place in named}
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(recipe().model.name)
    texts = [processor.tokenizer.decode([token for token in ids if token >= 0]) for ids in seen[-1]]
    assert all(any(title in text for text in texts) for title in answers)
