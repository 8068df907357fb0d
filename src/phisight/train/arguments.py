"""The recipe in the Trainer's words."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from phisight.core.environment import world_size
from phisight.core.run_folder import CHECKPOINTS
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe, TrainSettings
from phisight.train.distributed.fsdp import sharding
from phisight.train.distributed.process_group import TIMEOUT
from phisight.train.examples.dataset import ExampleSet

PREFETCHED = 4
"""Micro-batches that each worker keeps ready."""

PREFETCHED = 4
"""Micro-batches that each worker keeps ready."""


def steps_in(train_set: ExampleSet, recipe: Recipe) -> int:
    """Optimizer steps of a run on the processes there are."""
    return planned_steps(len(train_set), recipe.train, world_size())


def planned_steps(rows: int, train: TrainSettings, processes: int = 1) -> int:
    """Optimizer steps of a run over so many rows."""
    if train.steps is not None:
        return train.steps
    per_epoch = math.ceil(rows / (train.batch_size * train.accumulate * processes))
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
        save_total_limit=None,  # see checkpoints.py
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=evaluate and (train.save_every or every) % every == 0,
        metric_for_best_model="eval_loss" if evaluate else None,
        greater_is_better=False if evaluate else None,
        dataloader_num_workers=recipe.data.workers,
        dataloader_prefetch_factor=PREFETCHED if recipe.data.workers else None,
        dataloader_persistent_workers=recipe.data.workers > 0,
        dataloader_multiprocessing_context="fork" if recipe.data.workers and sys.platform == "linux" else None,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        seed=named_seed(recipe.seed, "train") % 2**32,
        data_seed=named_seed(recipe.seed, "order") % 2**32,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        **sharding(train.fsdp),
        ddp_timeout=int(TIMEOUT.total_seconds()),
        ddp_find_unused_parameters=False,  # a batch without an image takes the image part along: see ImageEmbedding
    )


def _checkpointing(wanted: bool) -> dict[str, Any]:
    """Recomputing activations, under the name that this release of the library gives it."""
    if not wanted:
        return {}
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}}
