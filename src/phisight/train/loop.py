"""The training loop: transformers' Trainer, told what a recipe says.

fit(model, processor, train_set, validation_set, recipe, run_dir, watch)
  Trainer: batches -> loss over the trained tokens of the whole step -> AdamW
  before the first step: answers where asked for
  every evaluate_every steps: loss on validation, answers where asked for, checkpoint; the best one is loaded at the end
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PrinterCallback
from transformers.trainer_utils import EvalLoopOutput

from phisight.core.errors import NonFiniteLossError
from phisight.core.settings import Recipe, TrainSettings
from phisight.model.attention import attend_by_sample
from phisight.model.number_head import restoring_head, save_head, split_head_state
from phisight.train.acceleration.compile import compiled_layers, eager_layers
from phisight.train.acceleration.freed_memory import return_freed_memory
from phisight.train.acceleration.liger import use_liger
from phisight.train.acceleration.patch import fused_layers
from phisight.train.arguments import steps_in, training_arguments
from phisight.train.callbacks import DataLoadingTime, TrainingCallback, passes_on
from phisight.train.durable import DurableTrainer
from phisight.train.error_translation import translate_errors
from phisight.train.evaluation import Answers, result_of, stops_early
from phisight.train.examples.collators import Collator, PackingCollator, drop_redundant_mask
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.sampler import LengthSampler
from phisight.train.trainable.param_groups import parameter_groups
from phisight.train.validation_loss import mean_over_tokens


def fit(
    model: Any,
    processor: Any,
    train_set: ExampleSet,
    validation_set: ExampleSet | None,
    recipe: Recipe,
    run_dir: Path,
    callback: TrainingCallback,
    answers: Answers | None = None,
    resume: Path | None = None,
) -> dict[str, float]:
    """Train, or go on from a checkpoint; afterwards the model holds the weights of the best evaluation.

    The best one is chosen by loss, or as ``answers`` says. Returns the last figures, with ``steps`` done and
    ``best_step`` and ``best_<figure>`` where one was chosen. StoppedError when a signal asked to stop, with a
    checkpoint saved.
    """
    answers = answers or Answers()
    args = training_arguments(recipe, run_dir, steps_in(train_set, recipe), evaluate=validation_set is not None)
    trainer = CheckedTrainer(
        recipe.train,
        answers,
        model=model,
        args=answers.choose(args),
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=processor,
        data_collator=PackingCollator() if recipe.train.packing else Collator(processor.tokenizer.pad_token_id),
        callbacks=[passes_on(callback), *stops_early(recipe.train)],
    )
    if recipe.train.packing:
        attend_by_sample(model)
    trainer.remove_callback(PrinterCallback)  # figures go to the callback
    if recipe.train.liger:
        use_liger(model)
    return_freed_memory(model)
    layers_as_written = recipe.train.compile or recipe.train.liger  # either fuses by itself
    with (
        trainer.stopping,
        translate_errors(recipe),
        compiled_layers(model, wanted=recipe.train.compile),
        fused_layers(model, wanted=not layers_as_written),
    ):
        result = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    figures = {key: float(value) for key, value in result.metrics.items()}
    figures |= {**result_of(trainer.state, answers.best), "train_loss": trainer.mean_loss()}
    return {**figures, "padding": trainer.padding.share()}


class CheckedTrainer(DurableTrainer):
    """Batches of like length; logits only where there is a label; an end at a loss that is no number."""

    optimizer: Any

    def __init__(self, settings: TrainSettings, answers: Answers | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.answers = answers or Answers()
        self.data_wait = DataLoadingTime()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Figures of a step; with the training loss go the share of padding up to here and of waiting for data."""
        if "loss" in logs:
            logs["padding"] = self.padding.share()
            logs["data_wait"] = self.data_wait.share()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        examples = self.train_dataset if train_dataset is None else train_dataset
        return LengthSampler(examples.lengths, self.examples_a_step, self.args.data_seed)

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW over groups that have their own learning rate and decay."""
        if self.optimizer is None:
            trained = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(trained))
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = optimizer(parameter_groups(trained, self.settings, decayed), **options)
        return self.optimizer

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loss of a micro-batch; nobody reads logits here."""
        needed = drop_redundant_mask(inputs, self.model.config)
        return super().compute_loss(model, {**needed, "skip_logits": True}, *args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of a step; the time it takes is the wait for data."""
        with self.data_wait.loading():
            return super().get_batch_samples(*args, **kwargs)

    def evaluation_loop(self, dataloader: Any, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> EvalLoopOutput:
        """Loss on validation, and the figures of the answers beside it."""
        self.model.eval()
        with eager_layers():
            found = {"loss": mean_over_tokens(map(self._prepare_inputs, dataloader), self._summed_loss)}
        found |= self._answered()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        return EvalLoopOutput(None, None, metrics, len(dataloader.dataset))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step == 0:  # nothing was resumed: what the model answers before its first step
            self._answered()
        super()._run_epoch(*args, **kwargs)

    def _answered(self) -> dict[str, float]:
        """Figures of the answers as the model is now."""
        with eager_layers(), self.accelerator.autocast():
            return self.answers.figures(self.model, self.state.global_step, sharded=self.is_fsdp_enabled)

    def _summed_loss(self, inputs: Mapping[str, Any]) -> Tensor:
        """Loss of a batch, summed over its trained tokens."""
        needed = drop_redundant_mask(inputs, self.model.config)
        with self.accelerator.autocast():
            loss: Tensor = self.model(**needed, skip_logits=True, num_items_in_batch=1).loss
        return loss

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """A checkpoint; the number head, which adapters' files have no place for, in a file of its own."""
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            save_head(self.model, Path(output_dir or str(self.args.output_dir)), split_head_state(state_dict or {})[1])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with restoring_head(self.model, Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        with restoring_head(self.model, Path(str(self.state.best_model_checkpoint))):
            super()._load_best_model()

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One micro-batch; NonFiniteLossError names the step and what usually helps."""
        self.padding.count(inputs)
        with self.data_wait.computing():
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
            finite = bool(torch.isfinite(loss))
        if not finite:
            raise NonFiniteLossError(
                f"the loss is {float(loss)} at step {self.state.global_step + 1} (batch of {len(inputs['input_ids'])} "
                f"examples, {int((inputs['labels'] != -100).sum())} trained tokens: "
                f"{self.rows_of_micro_batch()}); lower train.learning_rate or train.clip, and look for extreme "
                "values in these rows"
            )
        return loss
