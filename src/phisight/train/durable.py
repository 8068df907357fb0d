"""A Trainer that goes on from a checkpoint as if it had never stopped, bit for bit on a CPU.

data order   a function of seed, epoch, rank; the place in the epoch is skipped to without opening an image
random draws of a step: seeded by (seed, step, rank), whatever else has drawn before
figures      loss since the last line, padding: kept with the checkpoint
checkpoints  whole or not there (manifest.py); optimizer and schedule by the library, read without pickle
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from phisight.core.dataset_folder import FILE_NAME
from phisight.core.errors import some
from phisight.core.seeding import named_seed
from phisight.train.callbacks import PaddingShare
from phisight.train.checkpoint import manifest
from phisight.train.checkpoint.training_state import Progress, read_trained, rows_hash, write_trained
from phisight.train.distributed import process_group
from phisight.train.distributed.fsdp import full_state_dict, load_optimizer, save_optimizer, shard_on_cpu
from phisight.train.examples.sampler import LongestFirst, StepBatches, WithDummies
from phisight.train.shutdown import StopAfterStep, Stopping, worker_signals

TRAINING_ARGUMENTS = "training_args.bin"
"""A pickle that the library leaves with each checkpoint; nobody needs it."""


class EpochLoader(DataLoader[Any]):
    """Batches of one process; the loop tells it the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch."""
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)


class DurableTrainer(Trainer):
    """Batches, checkpoints and figures that survive a stop at any moment."""

    is_fsdp_enabled: bool

    def __init__(self, *args: Any, stopping: Stopping | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.padding = PaddingShare()
        self.stopping = stopping or Stopping()
        self.add_callback(StopAfterStep(self.stopping))
        self._folder = Path(self.args.output_dir)
        self._writing = False
        self._micro_batch = 0
        self._taken_up: Progress | None = None
        self._ended = False
        self._eval_loader: EpochLoader | None = None
        self._whole: dict[str, Tensor] | None = None
        """Weights of a model in shards, while they are saved."""
        self._rows = rows_hash(getattr(self.train_dataset, "rows", []))

    @property
    def examples_a_step(self) -> int:
        """Examples of an optimizer step, over micro-batches and processes."""
        args = self.args
        return int(args.train_batch_size * args.gradient_accumulation_steps * args.world_size)

    def create_accelerator_and_postprocess(self) -> None:
        """The library's, with sharding on CPUs too."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp_plugin_args is not None and not self.is_fsdp_enabled:
            shard_on_cpu(self.accelerator, self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of this process; drawing them leaves the random state of the steps alone."""
        args = self.args
        order: Any = self._get_train_sampler()
        self._batches = StepBatches(order, args.train_batch_size, args.process_index, args.world_size)
        return self._loader(self.train_dataset, self._batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Batches of like length of this process; every row comes once over all processes, and counts."""
        if self._eval_loader is None:
            args, examples = self.args, cast(Any, self.eval_dataset if eval_dataset is None else eval_dataset)
            order = LongestFirst(examples.lengths)
            batches = StepBatches(order, args.eval_batch_size, args.process_index, args.world_size)
            self._eval_loader = self._loader(examples, batches)
        return self._eval_loader

    def _loader(self, examples: Any, batches: StepBatches) -> EpochLoader:
        args = self.args
        return EpochLoader(
            WithDummies(examples),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory,
            worker_init_fn=worker_signals,
            generator=torch.Generator().manual_seed(args.data_seed),
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """The micro-batches of a step."""
        self._micro_batch = 0
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One micro-batch; what is drawn at random in a step depends on nothing before it."""
        if self._micro_batch == 0:
            torch.manual_seed(named_seed(self.args.seed, "step", self.state.global_step, self.args.process_index))
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._micro_batch += 1
        return loss

    def mean_loss(self) -> float:
        """Mean training loss of all steps of the run, whichever process took them."""
        total: float = self._total_loss_scalar
        return total / max(1, int(self.state.global_step))

    def rows_of_micro_batch(self) -> str:
        """Files and indices of the examples that were computed last, for an error message."""
        args = self.args
        batches = len(self._batches)
        steps = -(-batches // args.gradient_accumulation_steps)
        epoch, step = divmod(self.state.global_step, steps)
        micro_batch = step * args.gradient_accumulation_steps + max(0, self._micro_batch - 1)
        rows = getattr(self.train_dataset, "rows", None)
        indices = self._batches.real_indices(epoch, micro_batch)
        return some((f"{rows[index].get(FILE_NAME, 'row')} (row {index})" if rows else index) for index in indices)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self._taken_up is not None:
            self._take_up(self._taken_up)
            self._taken_up = None
        if self._ended or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True  # stopped between the last step and the end of the run
            return
        super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:  # noqa: ARG002 - the library's
        return str(self._folder / manifest.PARTIAL if self._writing else self._folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        progress = self._progress()
        older = manifest.checkpoint_steps(self._folder)
        stands = f"the checkpoint of step {older[0]} remains" if older else "there is no earlier checkpoint"
        with manifest.translate_write_errors(f"the checkpoint of step {step}", self._folder, stands):
            if self.args.should_save:
                manifest.clear_partial(self._folder)
            process_group.barrier()
            self._writing = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writing = False
            process_group.barrier()
            if self.state.best_global_step == step:
                self.state.best_model_checkpoint = str(self._folder / manifest.name_of(step))
            if self.args.should_save:
                self._publish(step, progress)
            self._whole = None
            process_group.barrier()
        if self.stopping.agreed:
            raise self.stopping.stopped(f"the checkpoint of step {step} is saved; continue with --resume")

    def _publish(self, step: int, progress: Progress) -> None:
        """Add what the library does not keep, and make the folder a checkpoint."""
        written = self._folder / manifest.PARTIAL / manifest.name_of(step)
        (written / TRAINING_ARGUMENTS).unlink(missing_ok=True)
        write_trained(self.model, written, self._whole)
        self.state.save_to_json(str(written / "trainer_state.json"))
        progress.write(written)
        manifest.publish(self._folder, step)
        best = self.state.best_model_checkpoint
        manifest.prune(self._folder, manifest.step_of(Path(best)) if best else None)

    def _progress(self) -> Progress:
        """Figures of every process; called by all of them."""
        mine = [float(self._tr_loss), *map(float, self.padding.counts())]
        each = process_group.gather_numbers(mine)
        return Progress(
            rows=self._rows,
            examples_a_step=self.examples_a_step,
            last_logged=self._globalstep_last_logged,
            total_loss=self._total_loss_scalar,
            loss=[one[0] for one in each],
            padding=[(int(one[1]), int(one[2])) for one in each],
        )

    def _take_up(self, progress: Progress) -> None:
        loss, padding = progress.of(self.args.process_index, self.args.world_size)
        self._tr_loss += loss
        self._total_loss_scalar = progress.total_loss
        self._globalstep_last_logged = progress.last_logged
        self.padding.restore(*padding)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, or go on from a checkpoint of the same rows and steps of the same size (RunError otherwise)."""
        if resume_from_checkpoint:
            checkpoint = Path(str(resume_from_checkpoint))
            self._taken_up = Progress.read(checkpoint, self._rows, self.examples_a_step)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        begun = super()._init_training_state(*args, **kwargs)
        best = self.state.best_model_checkpoint
        self.state.best_model_checkpoint = (
            str(self._folder / Path(best).name) if best else None
        )  # the run may have moved
        if self._taken_up is not None:
            self.state.compute_steps(self.args, self.state.max_steps)  # how often to save may have changed
            control: dict[str, Any] = self.state.stateful_callbacks["TrainerControl"]
            self._ended = bool(control["args"]["should_training_stop"])
        return begun

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        read_trained(self.model if model is None else model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            read_trained(self.model, Path(self.state.best_model_checkpoint))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Weights in the official layout, or adapters; whole ones of a model in shards."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        self._whole = full_state_dict(self.model)
        if self.args.should_save:
            self._save(output_dir, state_dict=dict(self._whole))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        folder, write = Path(output_dir), self.args.should_save
        save_optimizer(self.model, self.optimizer, folder / OPTIMIZER_NAME, write=write)
        if write:
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_fsdp_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        load_optimizer(self.model, self.optimizer, Path(checkpoint) / OPTIMIZER_NAME)
        schedule = torch.load(Path(checkpoint) / SCHEDULER_NAME, map_location="cpu", weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)

    def _save_rng_state(self, output_dir: str) -> None:
        """Nothing to keep: each step's draws follow from seed, step and rank."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing to restore."""
