"""The training loop: transformers' Trainer, told what a recipe says.

fit(model, processor, train_set, validation_set, recipe, run_dir, watch)
  Trainer: batches -> loss over the trained tokens of the whole step -> AdamW
  every evaluate_every steps: loss on validation, checkpoint; the best one is loaded at the end
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from phisight.core.errors import NonFiniteLossError
from phisight.core.rundir import CHECKPOINTS
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe, TrainSettings
from phisight.train.batching import LengthSampler
from phisight.train.collate import Collator
from phisight.train.examples import ExampleSet

CURVES = ("loss", "eval_loss", "grad_norm", "learning_rate", "epoch", "padding")
"""What is logged of a step; run times and totals are in what ``fit`` returns."""


class Watcher(Protocol):
    """Told how training goes."""

    def begin(self, steps: int) -> None:
        """Training starts; ``steps`` optimiser steps are planned."""

    def step(self, step: int) -> None:
        """An optimiser step is done."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures of a step: loss, learning rate, gradient norm, validation loss."""


def fit(
    model: Any,
    processor: Any,
    train_set: ExampleSet,
    validation_set: ExampleSet | None,
    recipe: Recipe,
    run_dir: Path,
    watcher: Watcher,
) -> dict[str, float]:
    """Train; the model holds the weights of the best validation loss afterwards. Returns the last figures."""
    trainer = CheckedTrainer(
        model=model,
        args=training_arguments(recipe, run_dir, steps_in(train_set, recipe), evaluate=validation_set is not None),
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=processor,
        data_collator=Collator(processor.tokenizer.pad_token_id),
        callbacks=[_Watching(watcher)],
    )
    trainer.remove_callback(PrinterCallback)  # figures go to the watcher
    outcome = trainer.train()
    figures = {key: float(value) for key, value in outcome.metrics.items()}
    return {**figures, "padding": trainer.padding.share()}


def steps_in(train_set: ExampleSet, recipe: Recipe) -> int:
    """Optimiser steps of a run on one device."""
    return planned_steps(len(train_set), recipe.train)


def planned_steps(rows: int, train: TrainSettings) -> int:
    """Optimiser steps of a run over so many rows on one device."""
    if train.steps is not None:
        return train.steps
    per_epoch = math.ceil(math.ceil(rows / train.batch_size) / train.accumulate)
    return max(1, math.ceil(per_epoch * train.epochs))


def training_arguments(recipe: Recipe, run_dir: Path, steps: int, *, evaluate: bool) -> TrainingArguments:
    """The recipe in the Trainer's words."""
    train = recipe.train
    every = train.evaluate_every or steps
    return TrainingArguments(
        output_dir=str(run_dir / CHECKPOINTS),
        max_steps=steps,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        gradient_accumulation_steps=train.accumulate,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        warmup_steps=math.ceil(train.warmup * steps),
        weight_decay=train.weight_decay,
        adam_beta2=train.adam_beta2,
        max_grad_norm=train.clip,
        bf16=train.bf16,
        **_checkpointing(train.gradient_checkpointing),
        logging_steps=train.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=every if evaluate else None,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=train.save_every or every,
        save_total_limit=2,
        load_best_model_at_end=evaluate and (train.save_every or every) % every == 0,
        metric_for_best_model="eval_loss" if evaluate else None,
        greater_is_better=False if evaluate else None,
        dataloader_num_workers=recipe.data.workers,
        dataloader_persistent_workers=recipe.data.workers > 0,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        seed=named_seed(recipe.seed, "train") % 2**32,
        data_seed=named_seed(recipe.seed, "order") % 2**32,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )


def _checkpointing(wanted: bool) -> dict[str, Any]:
    """Recomputing activations, under the name that this release of the library gives it."""
    if not wanted:
        return {}
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}}


class Padding:
    """Tokens that batches held, and how many of them were padding; counted where the batch lies, read when asked."""

    def __init__(self) -> None:
        self._tokens: Tensor | int = 0
        self._slots = 0

    def count(self, attention_mask: Tensor) -> None:
        """A batch more: bool or int64[B, T]."""
        self._tokens = self._tokens + attention_mask.sum()
        self._slots += attention_mask.numel()

    def share(self) -> float:
        """Padding as a share of all tokens so far."""
        return 1.0 - float(self._tokens) / self._slots if self._slots else 0.0


class CheckedTrainer(Trainer):
    """Batches of like length; logits only where there is a label; an end at a loss that is no number."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.padding = Padding()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Figures of a step; with the training loss goes the share of padding up to here."""
        if "loss" in logs:
            logs["padding"] = self.padding.share()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        examples = self.train_dataset if train_dataset is None else train_dataset
        step_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthSampler(examples.lengths, step_size, self.args.data_seed)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loss of a micro-batch, in training and on validation; nobody reads logits here."""
        return super().compute_loss(model, {**inputs, "skip_logits": True}, *args, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One micro-batch; NonFiniteLossError names the step and what usually helps."""
        self.padding.count(inputs["attention_mask"])
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {float(loss)} at step {self.state.global_step + 1} (batch of {len(inputs['input_ids'])} "
                f"examples, {int((inputs['labels'] != -100).sum())} trained tokens); lower train.learning_rate or "
                "train.clip, and look for extreme values in the table"
            )
        return loss


class _Watching(TrainerCallback):
    """Passes the Trainer's events on to a watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.watcher.begin(state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.watcher.step(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        numbers = {key: float(value) for key, value in (logs or {}).items() if key in CURVES}
        if numbers:
            self.watcher.log(state.global_step, numbers)
