"""The training loop: the step, and what ``phisight train`` calls.

fit                  model and examples of a recipe -> a trained model, its checkpoints, its totals
└── training_loop    batches -> forward -> loss -> backward -> clip -> optimizer step -> schedule -> zero grad
                     -> log -> evaluate -> checkpoint
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from phisight.core.run_folder import CHECKPOINTS
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe
from phisight.model.attention import attend_by_sample
from phisight.train.acceleration.compile import compiled_layers
from phisight.train.acceleration.freed_memory import return_freed_memory
from phisight.train.acceleration.liger import use_liger
from phisight.train.acceleration.patch import fused_layers, fuses
from phisight.train.callbacks import TrainingCallback
from phisight.train.error_translation import translate_errors
from phisight.train.evaluation import Answers
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.pair_set import PairSet
from phisight.train.losses.interface import Loss
from phisight.train.losses.supervised import SUPERVISED
from phisight.train.shutdown import GracefulShutdown
from phisight.train.training_run import TrainingRun


def fit(
    model: Any,
    processor: Any,
    train_set: ExampleSet | PairSet,
    validation_set: ExampleSet | None,
    recipe: Recipe,
    run_dir: Path,
    callback: TrainingCallback,
    answers: Answers | None = None,
    resume: Path | None = None,
    loss: Loss = SUPERVISED,
    notify: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Train, or continue from the checkpoint ``resume``; afterwards the model has the weights of the best evaluation.

    The best one is chosen by loss, or as ``answers`` says. Returns the run's totals, with ``steps`` done and
    ``best_step`` and ``best_<figure>`` where there was an evaluation. StoppedError when a signal asked to stop, with a
    checkpoint saved. ``notify`` gets the number types of the first step's products.
    """
    train, shutdown = recipe.train, GracefulShutdown()
    set_seed(named_seed(recipe.seed, "train") % 2**32)
    prepare_model(model, recipe)
    with (
        shutdown,
        translate_errors(recipe),
        compiled_layers(model, wanted=train.compile),
        fused_layers(model, wanted=fuses(train)),
    ):
        run = TrainingRun(
            model,
            processor,
            train_set,
            validation_set,
            recipe,
            run_dir / CHECKPOINTS,
            callback,
            answers or Answers(),
            loss,
            shutdown,
            notify,
        )
        if resume:
            run.resume(resume)
        run.begin()
        if not run.is_finished:  # a run may have stopped between its last step and its end
            training_loop(run)
        return run.finish()


def prepare_model(model: Any, recipe: Recipe) -> None:
    """Attention for packed rows, recomputed activations, Liger's kernels; all before the model is wrapped."""
    train = recipe.train
    model.config.use_cache = False
    if train.packing:
        attend_by_sample(model)
    if train.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if train.liger:
        use_liger(model)
    if train.return_freed_memory:
        return_freed_memory(model)


def training_loop(run: TrainingRun) -> None:
    """Train until all steps are done, evaluations no longer improve, or a signal asks to stop (StoppedError)."""
    model, optimizer, scheduler = run.model, run.optimizer, run.scheduler
    accelerator, loss = run.accelerator, run.loss
    for micro_batches in run.loader.steps(done=run.state.global_step, planned=run.steps):
        run.seed_step()
        divisor = run.divisor_of(micro_batches)
        for index, batch in enumerate(micro_batches):
            with run.micro_batch(index, micro_batches):  # gradients of ranks are reduced after the last one
                model.train()
                inputs = run.inputs_of(batch)
                with run.placement.autocast():
                    outputs = model(**loss.inputs(inputs, divisor))
                    computed = loss.compute(outputs, inputs, divisor)
                    value = computed.loss * run.placement.ranks  # DDP and FSDP average
                accelerator.backward(value)
            run.add_loss(value.detach(), index, batch)
            run.figures.add(computed.figures)
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), run.train.clip)
        optimizer.step()
        learning_rate = float(scheduler.get_last_lr()[0])  # the one that this step has used
        scheduler.step()
        optimizer.zero_grad()
        run.count_step()
        run.log(grad_norm, learning_rate)
        run.evaluate()
        run.checkpoint()
        if run.is_finished:
            break
