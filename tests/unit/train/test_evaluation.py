"""Answers within the loop: they choose and stop, and leave nothing behind that training would notice."""

import os
import random
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phisight.core.recipe import recipe_from
from phisight.core.settings import LoraSettings
from phisight.train.evaluation import Answers, preserved_state
from phisight.train.examples.dataset import ExampleSet
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method
from tests.helpers.short_fit import Recorder

ROOT = Path(__file__).parents[3]


class Scripted:
    """Gives the figures of a list, one an evaluation, and remembers the weights it was asked with.

    Before the first step it gives one that beats them all, which chooses nothing: there is no checkpoint of it.
    """

    def __init__(self, figures: list[float | None], higher: bool = False) -> None:
        self.figures = figures
        self.higher = higher
        self.steps: list[int] = []
        self.weights: list[torch.Tensor] = []

    def __call__(self, model: Any, step: int) -> Mapping[str, float]:
        if step == 0:
            return {"price_mae": 99.0 if self.higher else 0.0}
        figure = self.figures[len(self.steps)]
        self.steps.append(step)
        self.weights.append(model.lm_head.weight.detach().clone())
        return {} if figure is None else {"price_mae": figure}


def run(
    model: Any, processor: Any, examples: ExampleSet, out: Path, ask: Any, *, higher: bool = False, **train: Any
) -> tuple[dict[str, float], Recorder]:
    settings = {"method": "full", "train_tower": True, "steps": 6, "batch_size": 6, "learning_rate": 3e-3}
    recipe = recipe_from({"train": {**settings, "log_every": 1, "evaluate_every": 1, "warmup": 0.0, **train}})
    recorder = Recorder()
    torch.manual_seed(0)
    model = apply_method(model, recipe.train, LoraSettings(rank=2, dropout=0.3))
    answers = Answers(ask, "price_mae" if ask else "loss", higher)
    return fit(model, processor, examples, examples, recipe, out, recorder, answers), recorder


@pytest.mark.parametrize(
    ("figures", "higher", "best"),
    [([3.0, 1.0, 2.0], False, 2), ([3.0, 1.0, 2.0], True, 1), ([None, 1.0, None], False, 2)],
)
def test_a_figure_chooses_the_best_checkpoint(
    figures: list[float | None],
    higher: bool,
    best: int,
    model: Any,
    processor: Any,
    examples: ExampleSet,
    tmp_path: Path,
) -> None:
    ask = Scripted(figures, higher)
    outcome, _ = run(model, processor, examples, tmp_path, ask, higher=higher, steps=3)
    assert ask.steps == [1, 2, 3]
    assert (outcome["best_step"], outcome["best_price_mae"]) == (best, figures[best - 1])
    assert torch.equal(model.lm_head.weight, ask.weights[best - 1])
    assert not torch.equal(model.lm_head.weight, ask.weights[2])


@pytest.mark.parametrize(("figures", "best", "saved"), [([3.0, 1.0, 2.0], 2, True), ([1.0, 3.0, 2.0], 1, False)])
def test_the_best_without_a_checkpoint_is_named(
    figures: list[float | None],
    best: int,
    saved: bool,
    model: Any,
    processor: Any,
    examples: ExampleSet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Checkpoints every two steps, evaluations every step."""
    ask = Scripted(figures)
    run(model, processor, examples, tmp_path, ask, steps=3, save_every=2)
    assert torch.equal(model.lm_head.weight, ask.weights[(best if saved else 3) - 1])
    named = f"the best price_mae was 1 at step {best}, which has no checkpoint: the weights are those of step 3"
    assert (named in caplog.text) is not saved


def test_training_stops_when_nothing_gets_better(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask = Scripted([3.0, 2.0, 2.5, 2.0, 1.0, 1.0])
    outcome, _ = run(model, processor, examples, tmp_path, ask, patience=2)
    assert ask.steps == [1, 2, 3, 4]
    assert outcome["steps"] == 4
    assert "training stopped at step 4 of 6: no better price_mae than 2 at step 2" in caplog.text


class Disturbing:
    """An ask that leaves everything in a mess."""

    def __call__(self, model: Any, step: int) -> Mapping[str, float]:
        torch.rand(3)
        random.random()
        np.random.rand(3)
        model.eval()
        model.config.use_cache = True
        return {"price_mae": 1.0}


@pytest.mark.slow
def test_the_curve_is_the_same_with_and_without_answers(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path
) -> None:
    """With dropout, whose random numbers a disturbance would change."""
    copy = deepcopy(model)
    settings: dict[str, Any] = {"method": "lora", "train_tower": False, "steps": 3, "batch_size": 3}
    _, plain = run(model, processor, examples, tmp_path / "plain", None, **settings)
    _, asked = run(copy, processor, examples, tmp_path / "asked", Disturbing(), **settings)
    assert plain.losses == asked.losses
    assert len(set(plain.losses)) == 3


def test_everything_is_as_before(model: Any) -> None:
    model.train()
    model.model.vision_embed_tokens.eval()
    model.config.use_cache = False
    modes = [module.training for module in model.modules()]
    states = draws()
    with preserved_state(model):
        Disturbing()(model, 1)
    assert draws() == states
    assert [module.training for module in model.modules()] == modes
    assert len(set(modes)) == 2
    assert model.config.use_cache is False


def draws() -> list[Any]:
    """What the generators would give next; they are left as they are."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    drawn = [torch.rand(2).tolist(), random.random(), np.random.rand(2).tolist()]
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])
    return drawn


TWO_RANKS = """
import torch
from types import SimpleNamespace
from accelerate import PartialState
from phisight.train.evaluation import Answers
rank = PartialState(cpu=True).process_index
model = torch.nn.Linear(2, 2)
model.config = SimpleNamespace(use_cache=False)
asked = []
def ask(model, step):
    asked.append(rank)
    return {"accuracy": 0.5 + step + rank}
once = Answers(ask, "accuracy", True).figures(model, 7)
sharded = Answers(ask, "accuracy", True).figures(model, 7, sharded=True)
print("RESULT", rank, asked, once, sharded, flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.process
def test_rank_0_answers_and_the_others_learn_the_figures(tmp_path: Path) -> None:
    """Two processes that talk over loopback."""
    script = tmp_path / "ranks.py"
    script.write_text(TWO_RANKS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_PORT": str(20000 + os.getpid() % 20000), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    started = [
        subprocess.Popen(
            [sys.executable, script],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    texts = [process.communicate(timeout=300)[0] for process in started]
    assert "RESULT 0 [0, 0] {'accuracy': 7.5} {'accuracy': 7.5}" in texts[0], texts[0]
    assert "RESULT 1 [1] {'accuracy': 7.5} {'accuracy': 8.5}" in texts[1], texts[1]
