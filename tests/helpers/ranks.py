"""One process of several, told who it is the way torchrun tells it; run in children that are forked for it."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from phisight.core.settings import Recipe
from tests.helpers.small_run import curve

Child = Callable[..., BaseProcess]
"""Starts a function in a process of its own."""
PATIENCE = 120.0
"""Seconds after which processes count as hanging."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def become(rank: int, ranks: int, port: int) -> None:
    """Say in the environment which process this is."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )


def train_as(rank: int, ranks: int, port: int, recipe: Recipe, **options: Any) -> None:
    """``train`` as process ``rank`` of ``ranks``; an error is left in OUT.errors/RANK as 'Type: message'."""
    become(rank, ranks, port)
    from phisight.workflows.train import train

    if rank:
        forbid_writing()
    note_shards(recipe.out, rank)
    try:
        train(recipe, **options)
    except Exception as error:
        folder = recipe.out.with_suffix(".errors")
        folder.mkdir(exist_ok=True)
        (folder / str(rank)).write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None


def forbid_writing() -> None:
    """Only the first process may draw foreign images, store features, write checkpoints and figures."""
    from phisight.track import JsonlTracker
    from phisight.train.cache.store import TensorStore
    from phisight.train.checkpoint import manifest
    from phisight.train.examples import abstaining
    from phisight.workflows import train

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("this process must not write")

    TensorStore.write = refuse  # type: ignore[method-assign]
    JsonlTracker.start = refuse  # type: ignore[method-assign]
    manifest.publish = manifest.clear_partial = refuse  # type: ignore[assignment]
    vars(train)["save_best"] = refuse
    vars(abstaining)["make_foreign"] = refuse


def note_shards(out: Path, rank: int) -> None:
    """Write the share of all weights that this process holds, at the end of a sharded run."""
    from torch.distributed.tensor import DTensor

    from phisight.workflows import train

    names = vars(train)
    gather = names["full_state_dict"]

    def noted(model: Any) -> Any:
        weights = list(model.parameters())
        held = sum(one.to_local().numel() if isinstance(one, DTensor) else one.numel() for one in weights)
        share = held / sum(one.numel() for one in weights)
        out.with_suffix(f".share-{rank}").write_text(str(share))
        return gather(model)

    names["full_state_dict"] = noted


class Losses:
    """Remembers the training losses."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def begin(self, steps: int) -> None:
        pass

    def step(self, step: int) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:
            self.seen.append(metrics["loss"])


class SomeWithoutImage:
    """Examples of which every second one is text alone; their lengths are said to be equal, so that steps mix them."""

    def __init__(self, examples: Any) -> None:
        self.examples = examples
        self.lengths = [1] * len(examples)
        self.rows = examples.rows

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Any:
        example = self.examples[place]
        if place % 2:
            return example
        kept = example["labels"] != -100
        return {name: example[name][kept] for name in ("input_ids", "labels")}


def fit_mixed(rank: int, ranks: int, port: int, recipe: Recipe) -> None:
    """Train on examples with and without images; the first process leaves the losses in OUT.losses."""
    become(rank, ranks, port)
    from phisight.data.dataset.folder import DatasetFolder
    from phisight.train.distributed.process_group import joined
    from phisight.train.examples.dataset import example_set
    from phisight.train.loop import fit
    from phisight.train.trainable.methods import apply_method
    from phisight.workflows.load import load_model

    with joined():
        folder = DatasetFolder.open(recipe.data.path)
        model, processor = load_model(recipe.model.name, recipe.model)
        model = apply_method(model, recipe.train, recipe.lora)
        examples, _ = example_set(recipe, folder.load_image, folder.rows("train"), processor, folder.task)
        losses = Losses()
        mixed: Any = SomeWithoutImage(examples)
        fit(model, processor, mixed, None, recipe, recipe.out, losses)
    if rank == 0:
        recipe.out.with_suffix(".losses").write_text(" ".join(map(str, losses.seen)))


def together(child: Child, function: Callable[..., None], recipe: Recipe, ranks: int = 2, **options: Any) -> list[int]:
    """Exit codes of the processes."""
    port = free_port()
    processes = [child(function, rank, ranks, port, recipe, **options) for rank in range(ranks)]
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert None not in codes, f"still running after {PATIENCE:g} s: {codes}"
    return [code for code in codes if code is not None]


def losses(run: Path, name: str = "train/loss") -> torch.Tensor:
    return torch.tensor([line[name] for line in curve(run) if name in line])


def at(recipe: Recipe, out: Path) -> Recipe:
    return recipe.model_copy(update={"out": out})


def assert_same_curve(one: torch.Tensor, other: torch.Tensor) -> None:
    """Losses of each step within 1e-5 of their size, their mean within 1e-6."""
    drift = (one - other) / other
    assert len(one) == len(other) > 5
    assert drift.abs().max() < 1e-5
    assert drift.mean().abs() < 1e-6
