"""The collaborators of the training step: what it is given, and what it calls between two steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phisight.core.environment import is_first
from phisight.core.errors import NonFiniteLossError
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe
from phisight.model.loss import IGNORED
from phisight.train.acceleration.bfloat16 import computes_bfloat16
from phisight.train.acceleration.compile import eager_layers
from phisight.train.acceleration.product_types import reported_products
from phisight.train.callbacks import PaddingShare, TrainingCallback
from phisight.train.checkpoint import manifest
from phisight.train.checkpoint.save_restore import restore_optimizer, restore_weights, save_checkpoint
from phisight.train.checkpoint.training_state import Progress, TrainingState, rows_hash
from phisight.train.distributed.placement import Placement, norm_value
from phisight.train.distributed.process_group import gather_numbers
from phisight.train.evaluation import Answers, BestEvaluation, mean_over_tokens
from phisight.train.examples.collators import Collator, PackingCollator, drop_redundant_mask
from phisight.train.examples.pair_set import PairCollator, PairSet
from phisight.train.loader import StepLoader, evaluation_loader, planned_steps
from phisight.train.losses.figure_sums import FigureSums
from phisight.train.losses.interface import Loss
from phisight.train.shutdown import GracefulShutdown
from phisight.train.trainable.param_groups import advanced_schedule, make_optimizer, make_schedule


class TrainingRun:
    """Model, optimizer, data and state of a run on this rank.

    [Contract] A resumed run continues as if it had never stopped, bit for bit on a CPU: batches and random draws of a
    step follow from recipe, step and rank, and the sums since the last logged step are part of the checkpoint.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        train_set: Any,
        validation_set: Any,
        recipe: Recipe,
        folder: Path,
        callback: TrainingCallback,
        answers: Answers,
        loss: Loss,
        shutdown: GracefulShutdown,
        notify: Callable[[str], None],
    ) -> None:
        train = recipe.train
        self.recipe, self.train, self.folder = recipe, train, folder
        self.processor, self.answers, self.loss, self.shutdown = processor, answers, loss, shutdown
        self.notify: Callable[[str], None] | None = notify if is_first() else None
        self.placement = placement = Placement(model, train)
        self.model, self.accelerator = placement.model, placement.accelerator
        self.callback = callback if is_first() else None
        collate = PackingCollator() if train.packing else Collator(processor.tokenizer.pad_token_id)
        rank, ranks = placement.rank, placement.ranks
        collate_steps = PairCollator(collate) if isinstance(train_set, PairSet) else collate
        self.loader = StepLoader(train_set, collate_steps, recipe, rank, ranks)
        self._validation = evaluation_loader(validation_set, collate, recipe, rank, ranks) if validation_set else None
        self.steps = planned_steps(len(train_set), train, ranks)
        self.optimizer = make_optimizer(placement.unwrapped, train)
        self.scheduler = make_schedule(self.optimizer, train, self.steps)
        self.state = TrainingState()
        self.best = BestEvaluation(answers.best, answers.higher_is_better, train.patience)
        self.padding = PaddingShare()
        self._rows = rows_hash(getattr(train_set, "rows", []))
        self._loss = torch.zeros((), device=placement.device)
        self.figures = FigureSums()
        self._total_loss, self._last_logged = 0.0, 0
        self._flops, self._flops_before = 0, 0.0
        self._flops_per_token = 6 * placement.unwrapped.num_parameters(exclude_embeddings=True)
        self._seed = named_seed(recipe.seed, "train") % 2**32
        self._first_step, self._started = 0, time.time()

    @property
    def is_finished(self) -> bool:
        """All planned steps are done, or evaluations have not improved for long enough."""
        return self.state.global_step >= self.steps or self.best.is_exhausted

    def resume(self, checkpoint: Path) -> None:
        """Continue from a checkpoint of the same rows and steps of the same size (RunError otherwise)."""
        progress = Progress.read(checkpoint, self._rows, self.loader.examples_per_step)
        restore_weights(checkpoint, self.placement)
        restore_optimizer(checkpoint, self.placement, self.optimizer, self.scheduler)
        self.state = TrainingState.read(checkpoint)
        self.best.value, self.best.step = self.state.best_metric, self.state.best_global_step
        self.best.not_improved = self.state.not_improved
        if self.steps > self.state.max_steps:  # the run has become longer than it was planned
            self.best.not_improved = 0
            self.scheduler = advanced_schedule(self.optimizer, self.train, self.steps, self.state.global_step)
        loss, padding = progress.of(self.placement.rank, self.placement.ranks)
        self._loss += loss
        self.figures.restore(progress.figures_of(self.placement.rank, self.placement.ranks))
        self._total_loss, self._last_logged = progress.total_loss, progress.last_logged
        self.padding.restore(*padding)
        self._first_step, self._flops_before = self.state.global_step, self.state.total_flos

    def begin(self) -> None:
        """Tell the callback; of a new run, evaluate the answers before its first step."""
        self._started = time.time()
        if self.callback:
            self.callback.begin(self.steps)
        if self.state.global_step == 0:
            self._answered()

    def seed_step(self) -> None:
        """What a step draws at random depends on seed, step and rank alone."""
        torch.manual_seed(named_seed(self._seed, "step", self.state.global_step, self.placement.rank))

    def divisor_of(self, micro_batches: list[dict[str, Any]]) -> Tensor:
        """Count of all micro-batches of the step on all ranks, float32[], by which the loss is divided."""
        counted = sum(self.loss.count(batch) for batch in micro_batches)
        return torch.tensor(sum(one for (one,) in gather_numbers([float(counted)])), device=self.placement.device)

    def inputs_of(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A micro-batch on the device of the model; its padding is counted."""
        self.padding.count(batch)
        self._flops += self._flops_per_token * batch["input_ids"].numel()
        return drop_redundant_mask(self.placement.to_device(batch), self.placement.unwrapped.config)

    @contextmanager
    def micro_batch(self, index: int, batches: list[dict[str, Any]]) -> Iterator[None]:
        """Time a micro-batch, and reduce gradients over the ranks after the last one only.

        Of the first one it is said in which number types it multiplies, or that compiled layers are not watched.
        """
        reported: AbstractContextManager[None] = nullcontext()
        first = index == 0 and self.state.global_step == self._first_step
        if first and self.notify is not None and self.train.compile:
            self.notify(
                "Products of the first step: not watched, since train.compile fuses the layers; train a step without "
                "it to see their types."
            )
        elif first and self.notify is not None:
            asked = computes_bfloat16(self.train) or self.recipe.model.dtype == "bfloat16"
            reported = reported_products(self.placement.unwrapped, self.placement.device, self.notify, bf16=asked)
        with self.loader.time.computing(), self.placement.gradient_sync(index == len(batches) - 1), reported:
            yield

    def add_loss(self, loss: Tensor, index: int, batch: dict[str, Any]) -> None:
        """Add a micro-batch's loss to the sum of the step; NonFiniteLossError names its rows."""
        self._loss += loss
        if not bool(torch.isfinite(loss)):
            raise NonFiniteLossError(
                f"the loss is {float(loss)} at step {self.state.global_step + 1} (batch of {len(batch['input_ids'])} "
                f"examples, {int((batch['labels'] != IGNORED).sum())} trained tokens: "
                f"{self.loader.rows_of(self.state.global_step, index)}); lower train.learning_rate or train.clip, and "
                "look for extreme values in these rows"
            )

    def count_step(self) -> None:
        """An optimizer step is done."""
        self.state.global_step += 1
        self.state.epoch = self.loader.epoch_after(self.state.global_step)
        if self.callback:
            self.callback.step(self.state.global_step)

    def log(self, grad_norm: Any, learning_rate: float) -> None:
        """Every ``train.log_every`` steps: mean loss since the last line, norm, rate, padding, data-loading time."""
        step = self.state.global_step
        if step % self.train.log_every:
            return
        summed = self._mean_over_ranks()
        self._log(
            {
                "loss": summed / (step - self._last_logged),
                "grad_norm": norm_value(grad_norm),
                "learning_rate": learning_rate,
                "padding": self.padding.share(),
                "data_wait": self.loader.time.share(),
                **self.figures.means(),
            }
        )
        self._loss.zero_()
        self.figures.clear()
        self._total_loss += summed
        self._last_logged = step

    def evaluate(self) -> None:
        """Every ``train.evaluate_every`` steps and after the last one: validation loss, answers, the best so far."""
        if self._validation is None or not self._is_due(self.train.evaluate_every):
            return
        self.placement.unwrapped.eval()
        with eager_layers():
            loss = mean_over_tokens(map(self.placement.to_device, self._validation), self._summed_loss)
        figures = {"loss": loss, **self._answered()}
        self._log({"eval_loss": loss})  # who asks for the answers logs their figures
        self.best.update(figures[self.best.name], self.state.global_step)

    def checkpoint(self) -> None:
        """Every ``train.save_every`` steps, after the last one, and on a signal, which ends the run (StoppedError)."""
        stop, step = self.shutdown.requested(), self.state.global_step
        if not stop and not self._is_due(self.train.save_every or self.train.evaluate_every):
            return
        each = gather_numbers([float(self._loss), *map(float, self.padding.counts())])
        progress = Progress(
            rows=self._rows,
            examples_a_step=self.loader.examples_per_step,
            last_logged=self._last_logged,
            total_loss=self._total_loss,
            loss=[one[0] for one in each],
            padding=[(int(one[1]), int(one[2])) for one in each],
            figures=self.figures.of_ranks(),
        )
        state = self.state
        state.max_steps, state.total_flos = self.steps, self._total_flops()
        state.best_metric, state.best_global_step = self.best.value, self.best.step
        state.not_improved = self.best.not_improved
        if self.best.step == step:
            state.best_model_checkpoint = manifest.name_of(step)
        save_checkpoint(self.folder, self.placement, self.processor, self.optimizer, self.scheduler, state, progress)
        if stop:
            raise self.shutdown.stopped(f"the checkpoint of step {step} is saved; continue with --resume")

    def finish(self) -> dict[str, float]:
        """Load the best saved evaluation; returns the run's totals."""
        seconds, steps = time.time() - self._started, self.state.global_step - self._first_step
        total_loss = self._total_loss + self._mean_over_ranks()
        if self.best.step and self.state.best_model_checkpoint == manifest.name_of(self.best.step):
            restore_weights(self.folder / manifest.name_of(self.best.step), self.placement)
        elif self.best.step:
            self.best.warn_of_last_weights(self.state.global_step)
        if self.state.global_step < self.steps:
            self.best.warn_of_early_end(self.state.global_step, self.steps)
        return {
            "train_runtime": round(seconds, 4),
            "train_samples_per_second": round(steps * self.loader.examples_per_step / seconds, 3),
            "train_steps_per_second": round(steps / seconds, 3),
            "total_flos": self._total_flops(),
            "train_loss": total_loss / max(1, self.state.global_step),
            "epoch": self.state.epoch,
            "steps": float(self.state.global_step),
            **self.best.figures(),
            "padding": self.padding.share(),
        }

    def _is_due(self, every: int | None) -> bool:
        step = self.state.global_step
        return step >= self.steps or (every is not None and step % every == 0)

    def _log(self, metrics: dict[str, float]) -> None:
        """Metrics of a step to the callback."""
        if self.callback:
            self.callback.log(self.state.global_step, {**metrics, "epoch": self.state.epoch})

    def _answered(self) -> dict[str, float]:
        """Figures of the answers as the model is now."""
        with eager_layers(), self.placement.autocast():
            unwrapped, step = self.placement.unwrapped, self.state.global_step
            return self.answers.figures(unwrapped, step, sharded=self.placement.sharded)

    def _summed_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Supervised loss of a batch, summed over its trained tokens."""
        model = self.placement.unwrapped
        inputs = drop_redundant_mask(batch, model.config)
        with self.placement.autocast():
            loss: Tensor = model(**inputs, skip_logits=True, num_items_in_batch=1).loss
        return loss

    def _mean_over_ranks(self) -> float:
        """Loss since the last logged step."""
        each = gather_numbers([float(self._loss)])
        return sum(one for (one,) in each) / len(each)

    def _total_flops(self) -> float:
        """Floating-point operations of all ranks in all steps of the run."""
        return self._flops_before + sum(one for (one,) in gather_numbers([float(self._flops)]))
