"""Several nodes, each with its own rendezvous agent: the curve of one process, one shared folder, caches anywhere."""

import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from phisight.core.recipe import changed, write_recipe
from phisight.core.settings import Recipe
from phisight.workflows.train import train
from tests.helpers.ranks import free_port, train_as
from tests.helpers.small_run import curve

PATIENCE = 240.0
ROOT = Path(__file__).parents[2]


def losses(run: Path) -> torch.Tensor:
    return torch.tensor([line["train/loss"] for line in curve(run) if "train/loss" in line])


def with_cache(recipe: Recipe, out: Path) -> Recipe:
    return recipe.model_copy(update={"out": out, "data": changed(recipe.data, feature_cache_gb=1.0)})


def test_two_nodes_give_the_curve_of_one_process(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Two agents meet on loopback; each node has a feature cache of its own, which its first process fills."""
    every = {"steps": 6, "evaluate_every": None, "save_every": 6, "log_every": 1, "accumulate": 1}
    one = with_cache(recipe(batch_size=2, **every), tmp_path / "one")
    one.lora.dropout = 0.0  # what is dropped depends on the rank
    train(one)
    two = with_cache(recipe(batch_size=1, **every), tmp_path / "two")
    two.lora.dropout = 0.0
    file = tmp_path / "recipe.yaml"
    file.write_text(write_recipe(two))
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "run"]
    command += ["--local-addr", "127.0.0.1", "-m", "phisight", "train", str(file)]
    agents = [
        subprocess.Popen(
            [*command, "--set", f"data.feature_cache={tmp_path / f'node{node}'}"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in range(2)
    ]
    told = [agent.communicate(timeout=PATIENCE)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(told)
    assert sum(text.count("Trained:") for text in told) == 1
    torch.testing.assert_close(losses(two.out), losses(one.out), rtol=1e-5, atol=0.0)
    files = [sorted(path.name for path in (tmp_path / f"node{node}").rglob("*.safetensors")) for node in range(2)]
    assert files[0] == files[1]
    assert len(files[0]) > 20


def test_a_run_folder_that_is_not_shared_is_one_line(
    child: Callable[..., BaseProcess], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    port, wanted = free_port(), recipe(steps=2, evaluate_every=None)
    own = [wanted.model_copy(update={"out": tmp_path / f"node{node}"}) for node in range(2)]
    processes = [child(train_as, rank, 2, port, own[rank]) for rank in range(2)]
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [1, 1]
    for rank, one in enumerate(own):
        message = (one.out.with_suffix(".errors") / str(rank)).read_text()
        assert message.startswith(f"RunError: {one.out} is not the same folder on all nodes")
        assert "\n" not in message
