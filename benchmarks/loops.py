"""The two training loops that ``train_step.py`` compares, each as a call that runs some steps and returns its clock."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from medium import NUM_CROPS, TASK, make_examples, open_image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from phisight.core.recipe import recipe_from
from phisight.core.settings import Recipe
from phisight.model.processing import Phi3VProcessor
from phisight.train.examples.tokenize import Conversation, encode_answer
from phisight.train.loop import fit
from phisight.train.precompute import fill_caches
from phisight.train.trainable.methods import apply_method

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """What trains, and on which images."""

    name: str
    method: str
    from_layer: int = 0
    images: str = "square"
    bf16: bool = False
    against: str = "plain"
    """The yardstick: the plain loop, in float32, or phisight's own float32."""


CASES = {
    case.name: case
    for case in (
        Case("lora", "lora"),
        Case("top", "lora", from_layer=6),
        Case("full", "full"),
        Case("full-mixed", "full", images="mixed"),
        Case("bf16", "lora", bf16=True),
        Case("bf16-own", "lora", bf16=True, against="phisight"),
    )
}


MICRO_BATCH = int(os.environ.get("MICRO_BATCH", "1"))
"""Examples of phisight's micro-batches; on a CPU one at a time stays in the cache and takes the least memory."""
COMPILE = "COMPILE" in os.environ
"""Whether phisight compiles the layers."""
CPU_TIME = "--cpu-time" in sys.argv
timer = time.process_time if CPU_TIME else time.perf_counter
"""Wall clock, or the process's CPU time where other work shares the machine (then on one thread)."""


class Clock:
    """Times the steps after the first one: a training callback."""

    def __init__(self) -> None:
        self.seconds = self.waited = 0.0
        self.losses: list[float] = []
        self._start: float | None = None
        self._last = self._before = 0.0

    def begin(self, steps: int) -> None:
        """Training starts."""

    def step(self, step: int) -> None:  # noqa: ARG002
        """An optimizer step is done; the first one warms up."""
        now = timer()
        if self._start is None:
            self._start, self._last, self.waited = now, now, 0.0
        self.seconds = now - self._start
        self._before, self._last = self._last or now, now

    def log(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Keep the losses."""
        if "loss" in metrics:
            self.losses.append(metrics["loss"])
            self.waited += metrics.get("data_wait", 0.0) * (self._last - self._before)


Run = Callable[[int], Clock]


def settings_of(case: Case, batch: int, out: Path, *, micro: int = 1, bf16: bool = False) -> Recipe:
    """The recipe of a case: steps of ``batch`` examples in micro-batches of ``micro``."""
    return recipe_from(
        {
            "out": str(out / "run"),
            "model": {"num_crops": NUM_CROPS},
            "train": {
                "method": case.method,
                "from_layer": case.from_layer,
                "train_tower": case.method == "full",
                "batch_size": micro,
                "accumulate": batch // micro,
                "bf16": bf16,
                "schedule": "constant",
                "warmup": 0.0,
                "log_every": 1,
                "save_every": 10**6,
            },
        }
    )


def step_phisight(case: Case, model: Any, processor: Phi3VProcessor, rows: Rows, batch: int, out: Path) -> Run:
    """phisight's own loop; what it stores is computed here, before the first step."""
    recipe = settings_of(case, batch, out, micro=min(MICRO_BATCH, batch), bf16=case.bf16)
    recipe.train.compile = COMPILE
    model = apply_method(model.bfloat16() if case.bf16 else model, recipe.train, recipe.lora)
    examples = make_examples(rows, processor)
    reports = fill_caches(recipe, model, [examples], lambda _done, _total: None, lambda _rows: None)
    print("  ", *reports, flush=True)

    def run(steps: int) -> Clock:
        clock = Clock()
        recipe.train.steps = steps
        fit(model, processor, examples, None, recipe, out, clock)
        return clock

    return run


class PlainExamples(Dataset[dict[str, Tensor]]):
    """Every example made anew each time: image opened, processed and padded to the most crops."""

    def __init__(self, rows: Rows, processor: Any) -> None:
        self.rows, self.processor = rows, processor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.rows[index]
        pixels = self.processor.image_processor(open_image(row), return_tensors="pt")
        chat = Conversation.of(self.processor, TASK, row)
        ids, labels = encode_answer(self.processor, chat.prompt, chat.answer, pixels.pop("num_img_tokens"))
        ids_, labels_ = torch.tensor(ids), torch.tensor(labels)
        return {"input_ids": ids_, "attention_mask": torch.ones_like(ids_), "labels": labels_, **pixels}


class PlainTrainer(Trainer):
    """transformers' Trainer, with a stopwatch at the data."""

    clock: Clock

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        start = timer()
        batches = super().get_batch_samples(epoch_iterator, *args, **kwargs)
        self.clock.waited += timer() - start
        return batches


class Passing(TrainerCallback):
    """Passes the Trainer's steps and losses on to a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.step(0)

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        self.clock.log(0, logs or {})


def plain_arguments(recipe: Recipe, out: Path, steps: int) -> TrainingArguments:
    """A recipe as the Trainer takes it."""
    train = recipe.train
    return TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=train.accumulate,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        weight_decay=train.weight_decay,
        max_grad_norm=train.clip,
        bf16=train.bf16,
        logging_steps=train.log_every,
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )


def one_example(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A batch of one: text gets a batch axis, pixels have theirs."""
    (example,) = examples
    return {name: value if "image" in name or "pixel" in name else value[None] for name, value in example.items()}


def step_plain(case: Case, model: Any, processor: Phi3VProcessor, rows: Rows, batch: int, out: Path) -> Run:
    """transformers' Trainer in float32, or phisight in float32 where that is the yardstick."""
    if case.against == "phisight":
        return step_phisight(Case(case.name, case.method), model, processor, rows, batch, out)
    recipe = settings_of(case, batch, out)
    model = apply_method(model, recipe.train, recipe.lora)

    def run(steps: int) -> Clock:
        clock = Clock()
        args = plain_arguments(recipe, out, steps)  # micro-batches of one
        trainer = PlainTrainer(
            model=model,
            args=args,
            train_dataset=PlainExamples(rows, processor),
            data_collator=one_example,
            callbacks=[Passing(clock)],
        )
        trainer.clock = clock
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock

    return run
