"""What all parts share: the model, its processor, the device, the record, and one way to measure a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from gpu.device import Device, timed
from gpu.model import Size, make_config, make_model, make_processor
from gpu.record import Figures, Record
from gpu.training import (
    Batch,
    Step,
    Variant,
    collated,
    flops_of,
    layers_of,
    make_examples,
    micro_batch_size,
    profile,
)
from phisight.core.settings import TrainSettings

STEP_SECONDS = {"official": 2.0, "reduced": 0.05}
"""Timed seconds of a variant."""


class Session:
    """Everything that outlives a part."""

    def __init__(self, size: Size, device: Device, record: Record) -> None:
        self.size, self.device, self.record = size, device, record
        self.processor = make_processor(size)
        self.config = make_config(size, self.processor)
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model, made when it is first asked for."""
        if self._model is None:
            self._model = make_model(self.config, self.device.torch_device)
        return self._model

    def renew(self) -> None:
        """Let go of the model, for a part that has changed its weights; the next one makes it anew."""
        self._model = None
        self.device.release()

    @property
    def full(self) -> bool:
        """Whether this is the size that figures are reported of."""
        return self.size.name == "official"

    @property
    def examples(self) -> int:
        """Examples of a step, in as many micro-batches as memory asks for."""
        return 8 if self.full else 2

    def needs(self, seconds: float) -> float:
        """Expected seconds of a measurement at this size."""
        return seconds if self.full else min(seconds, 1.0)

    @property
    def step_seconds(self) -> float:
        """Seconds to time a step for."""
        return STEP_SECONDS[self.size.name]

    @property
    def matrix_rate(self) -> float | None:
        """FLOP/s of the bfloat16 matrix product, where it was measured."""
        rate = self.record.figure("matrix", "bf16", "tflops")
        return None if rate is None else float(rate) * 1e12

    def measure(
        self,
        model: Any,
        variant: Variant,
        grids: Sequence[int],
        *,
        train: TrainSettings,
        optimizer: Callable[[Any], Any] | None = None,
        examples: list[Any] | None = None,
        profiled: bool = False,
    ) -> Figures:
        """Time a step over one example for each of ``grids``; micro-batches are halved until they fit."""
        layers = self.config.num_hidden_layers - train.from_layer
        if examples is None:
            examples = make_examples(
                self.size, self.processor, grids, variant.images, model, train.from_layer if layers else 0
            )
        longest = max(len(one["labels"]) for one in examples)
        micro = variant.micro_batch or micro_batch_size(
            self.config, longest, self.device, layers=layers, checkpointing=variant.checkpointing
        )
        micro = min(micro, len(examples))
        while True:
            try:
                return self._measured(model, variant, grids, examples, micro, train, optimizer, profiled)
            except torch.OutOfMemoryError:
                if micro == 1:
                    raise
                micro //= 2
            self.device.release()

    def _measured(
        self,
        model: Any,
        variant: Variant,
        grids: Sequence[int],
        examples: list[Any],
        micro: int,
        train: TrainSettings,
        optimizer: Callable[[Any], Any] | None,
        profiled: bool,
    ) -> Figures:
        pin = self.device.kind == "cuda"
        batches = [
            collated(examples[start : start + micro], self.processor, packed=variant.packed, pin=pin)
            for start in range(0, len(examples), micro)
        ]

        def again() -> Iterator[Batch]:
            return iter(batches)

        trained = [one for one in model.parameters() if one.requires_grad]
        step = Step(model, self.device, again, plain=variant.plain, optimizer=optimizer(trained) if optimizer else None)
        with layers_of(model, variant):
            timing = timed(self.device, step, seconds=self.step_seconds)
            step.split = {}
            step()
            kernels = profile(step, self.device) if profiled else None
        step.optimizer.zero_grad(set_to_none=True)
        flops = flops_of(self.config, self.size, grids, examples, variant, train)
        tokens = sum(len(one["labels"]) for one in examples)
        rate = self.matrix_rate
        return {
            "images_per_s": len(examples) / timing.typical,
            "tokens_per_s": tokens / timing.typical,
            "model_tflops": flops / timing.typical / 1e12,
            **({"share_of_matrix_rate": flops / timing.typical / rate} if rate else {}),
            "micro_batch": micro,
            "examples": len(examples),
            "tokens": tokens,
            "loss": step.loss,
            **timing.as_json(),
            "split_s": step.split,
            **({"kernels": kernels} if kernels else {}),
        }
