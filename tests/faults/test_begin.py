"""How a training begins: one at a time on a run folder, nothing left by a start that fails, more steps on request."""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi

from phisight.core.errors import DatasetError, SettingsError
from phisight.core.recipe import changed, read_config, recipe_from, split_more_steps
from phisight.core.settings import ModelSettings, Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.workflows import load
from phisight.workflows.load import load_model, load_run
from phisight.workflows.open_run import LOCK, locked
from phisight.workflows.train import train
from tests.helpers.small_run import curve, weights

Build = Callable[..., Recipe]
Child = Callable[..., BaseProcess]
COMMITS = "0" * 39 + "1", "0" * 39 + "2"


def until(moment: Callable[[], bool], process: BaseProcess) -> None:
    while not moment():
        assert process.is_alive()
        time.sleep(0.01)


def test_a_second_training_is_refused_at_once(child: Child, recipe: Build) -> None:
    """And the lock dies with its process, although a data worker of it may live on for a moment."""
    endless = recipe(steps=100_000, save_every=100_000, evaluate_every=None, workers=1, log_every=1)
    first = child(train, endless)
    until((endless.out / "metrics.jsonl").exists, first)
    with pytest.raises(SettingsError, match=rf"another training \(process {first.pid} on .*\) uses the run folder"):
        train(endless, resume=True)
    workers = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    assert workers
    first.kill()
    first.join()
    with locked(endless.out):
        assert (endless.out / LOCK).read_text().startswith(str(os.getpid()))
    steps = [line["step"] for line in curve(endless.out)]
    assert steps == sorted(set(steps))


def test_a_second_training_of_one_process_is_refused(tmp_path: Path) -> None:
    """A notebook's second cell, a thread; the first one's lock outlives the refusal."""
    run = tmp_path / "run"
    with locked(run):
        for same in (run, tmp_path / "." / "run"):
            with (
                pytest.raises(SettingsError, match=rf"another training of this process \({os.getpid()}\)"),
                locked(same),
            ):
                pass
        with ThreadPoolExecutor(1) as thread, pytest.raises(SettingsError, match="of this process"):
            thread.submit(locked(run).__enter__).result()
        child = os.fork()  # (reading the file here would drop the lock)
        if child == 0:
            try:
                with locked(run):
                    os._exit(1)
            except SettingsError as refused:
                os._exit(0 if f"process {os.getppid()} on" in str(refused) else 2)
        assert os.waitpid(child, 0)[1] == 0, "the first one's lock is gone"
    with locked(run):
        pass


def test_a_start_that_fails_leaves_nothing_that_blocks(recipe: Build, tmp_path: Path) -> None:
    wanted = recipe(steps=2, evaluate_every=None)
    wrong = wanted.model_copy(update={"data": changed(wanted.data, path=tmp_path / "nowhere")})
    with pytest.raises(DatasetError):
        train(wrong)
    assert not wanted.out.exists()
    with pytest.raises(SettingsError, match=r"lora\.targets"):
        train(wanted.model_copy(update={"lora": wanted.lora.model_copy(update={"targets": ["nothing"]})}))
    assert not wanted.out.exists()
    train(wanted)
    assert [line["step"] for line in curve(wanted.out)] == [2, 2]


def test_a_failed_overwrite_leaves_the_run(recipe: Build, tmp_path: Path) -> None:
    wanted = recipe(steps=2, evaluate_every=None)
    train(wanted)
    before = curve(wanted.out), weights(wanted.out)
    with pytest.raises(DatasetError):
        train(wanted.model_copy(update={"data": changed(wanted.data, path=tmp_path / "nowhere")}), overwrite=True)
    assert curve(wanted.out) == before[0]
    assert all(value.equal(before[1][name]) for name, value in weights(wanted.out).items())


def test_more_steps_continue_a_finished_run(recipe: Build, tmp_path: Path) -> None:
    """The first steps are those of the run, the learning rates of the others those of the longer schedule."""
    settings: dict[str, Any] = {"steps": 4, "evaluate_every": None, "log_every": 1, "schedule": "linear"}
    wanted = recipe(**settings)
    train(wanted)
    first = curve(wanted.out)
    train(wanted, resume=True, more_steps=2)
    longer = curve(wanted.out)
    assert [line["step"] for line in longer] == [1, 2, 3, 4, 4, 5, 6, 6]
    assert longer[: len(first)] == first
    assert read_config(wanted.out / "config.yaml").train.steps == 6
    other = recipe(**{**settings, "steps": 6}).model_copy(update={"out": tmp_path / "six"})
    train(other)
    rates = [
        {line["step"]: line["train/learning_rate"] for line in curve(run) if "train/loss" in line}
        for run in (wanted.out, other.out)
    ]
    assert [rates[0][step] for step in (5, 6)] == [rates[1][step] for step in (5, 6)]
    with pytest.raises(SettingsError, match=r"train.steps \(was 6, now 4\)"):
        train(wanted, resume=True)


def test_more_steps_need_a_run(recipe: Build) -> None:
    with pytest.raises(SettingsError, match=r"train.steps=\+2 continues a run"):
        train(recipe(), resume=True, more_steps=2)
    assert split_more_steps(["a=1", "train.steps=+500"]) == (["a=1"], 500)
    assert split_more_steps(["train.steps=500"]) == (["train.steps=500"], None)
    with pytest.raises(SettingsError, match="use it with phisight train --resume"):
        recipe_from({}, ["train.steps=+500"])


def test_a_prompt_alone_changes_the_task_of_the_data_set(recipe: Build, data: Path) -> None:
    plain = recipe(steps=2, evaluate_every=None)
    wanted = recipe_from(plain.model_dump(mode="json"), ["task.prompt=Which product is it?"])
    train(wanted)
    task, own = read_config(wanted.out / "config.yaml").task, DatasetFolder.open(data).task
    assert task is not None
    assert (task.prompt, task.answer, task.fields) == ("Which product is it?", own.answer, own.fields)
    assert own.prompt != task.prompt
    train(wanted, resume=True)  # the same settings


def test_a_run_is_the_model_of_another_one(recipe: Build, tmp_path: Path) -> None:
    """Adapters on adapters: the second run starts from what the first one has learned."""
    first = recipe(steps=3, evaluate_every=None)
    train(first)
    tuned = load_run(first.out)[0]
    settings = ModelSettings(name=str(first.out))
    started = load_model(settings.name, settings)[0]
    assert all(torch.equal(value, tuned.state_dict()[name]) for name, value in started.state_dict().items())
    second = recipe(steps=2, evaluate_every=None).model_copy(update={"model": settings, "out": tmp_path / "second"})
    train(second)
    twice = load_run(second.out)[0]
    assert not all(torch.equal(value, tuned.state_dict()[name]) for name, value in twice.state_dict().items())


def test_a_hub_name_is_pinned_to_its_commit(
    recipe: Build, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub whose branch moves on between start and resume: the run stays on the commit it began with."""
    asked: list[str | None] = []
    newest = [COMMITS[0]]

    def cached(_name: str, file: str, revision: str | None = None) -> str:
        asked.append(revision)
        return str(tmp_path / "snapshots" / (revision if revision in COMMITS else newest[0]) / file)

    loaded: list[str | None] = []
    own = load.load_model

    def from_hub(name: str, settings: ModelSettings, transform: Any = None) -> Any:
        loaded.append(settings.revision)
        return own(small_model, settings.model_copy(update={"name": str(small_model)}), transform)

    there = SimpleNamespace(siblings=[SimpleNamespace(rfilename="config.json")])
    monkeypatch.setattr(HfApi, "model_info", lambda *_args, **_options: there)
    monkeypatch.setattr(load, "cached_file", cached)
    monkeypatch.setattr(load, "load_model", from_hub)
    wanted = recipe(steps=2, evaluate_every=None).model_copy(update={"model": ModelSettings(name="someone/model")})
    train(wanted)
    assert read_config(wanted.out / "config.yaml").model.revision == COMMITS[0]
    newest[0] = COMMITS[1]
    train(wanted, resume=True)
    assert loaded == [COMMITS[0]] * 2
    other = wanted.model_copy(update={"model": ModelSettings(name="someone/model", revision="main")})
    with pytest.raises(SettingsError, match=rf"model.revision \(was '{COMMITS[0]}', now '{COMMITS[1]}'\)"):
        train(other, resume=True)


def test_the_lock_is_not_held_by_forked_processes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (read, write), (ready, told) = os.pipe(), os.pipe()
    holder = os.fork()
    if holder == 0:  # takes the lock, forks a worker that outlives it
        with locked(run):
            if os.fork() == 0:
                os.read(read, 1)
                os._exit(0)
            os.write(told, b"x")
            signal.pause()
    os.read(ready, 1)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with locked(run):
        held = json.dumps((run / LOCK).read_text())
    os.write(write, b"x")
    assert str(os.getpid()) in held
