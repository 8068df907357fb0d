"""Answers: the library's generate over a growing cache, and a recorded step over a static one, against bandwidth."""

from __future__ import annotations

from typing import Any

import torch
from transformers import StaticCache

from gpu.device import timed
from gpu.model import TASK
from gpu.record import Figures
from gpu.session import Session
from gpu.training import profile
from phisight.train.acceleration.patch import fused_layers
from phisight.train.examples.tokenize import prompt_text

PART = "generation"


def run(session: Session) -> None:
    """Each batch size, large ones first: they are what the aim speaks of."""
    for batch in reversed(session.size.batches):
        for way, needs in ((fused, 8), (recorded, 6), (library_fused, 9), (library, 9)):

            def measure(way: Any = way, batch: int = batch) -> Figures:
                figures: Figures = way(session, batch)
                return figures

            session.record.attempt(PART, f"{batch} at once: {way.__name__}", session.needs(needs), measure)


def prompts(session: Session, batch: int) -> dict[str, torch.Tensor]:
    """The same image and question some times, on the device."""
    size, grid, device = session.size, session.size.grids[0], session.device.torch_device
    text = prompt_text(session.processor, TASK.prompt, 1)
    ids = torch.tensor([session.processor.encode(text, [size.image_tokens(grid)])], device=device)
    side = size.crop_size
    pixels = torch.randn(1, grid * grid + 1, 3, side, side, device=device, dtype=session.model.dtype)
    sizes = torch.tensor([[grid * side, grid * side]], device=device)
    return {
        "input_ids": ids.expand(batch, -1).contiguous(),
        "attention_mask": torch.ones_like(ids).expand(batch, -1).contiguous(),
        "pixel_values": pixels.expand(batch, -1, -1, -1, -1).contiguous(),
        "image_sizes": sizes.expand(batch, -1).contiguous(),
    }


def figures_of(session: Session, batch: int, prompt: int, step_s: float, prefill_s: float) -> Figures:
    """Tokens a second and the share of what memory bandwidth allows: weights and keys read once a step."""
    config, new = session.config, session.size.new_tokens
    held = [one for name, one in session.model.named_parameters() if "vision" not in name and "embed" not in name]
    weights = sum(one.nbytes for one in held)
    keys = 2 * config.num_hidden_layers * config.hidden_size * 2 * (prompt + new / 2) * batch
    found: Figures = {
        "tokens_per_s": batch / step_s,
        "step_ms": step_s * 1e3,
        "prefill_s": prefill_s,
        "answers_per_s": batch / (prefill_s + new * step_s),
        "read_gb_a_step": (weights + keys) / 1e9,
    }
    rate = session.record.figure("matrix", "memory", "tb_per_s")
    if rate:
        found["share_of_bandwidth"] = (weights + keys) / step_s / 1e12 / rate
    return found


def generated(session: Session, inputs: dict[str, torch.Tensor], count: int) -> Any:
    """Ids of prompt and ``count`` new tokens, greedily."""
    return session.model.eval().generate(
        **inputs,
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        suppress_tokens=None,
        pad_token_id=session.processor.tokenizer.pad_token_id,
    )


@torch.no_grad()
def library(session: Session, batch: int) -> Figures:
    """``generate`` with its own growing cache: what ``Predictor`` calls."""
    inputs, new = prompts(session, batch), session.size.new_tokens
    prompt = inputs["input_ids"].shape[1]
    one = timed(session.device, lambda: generated(session, inputs, 1), seconds=0.0, most=2)
    many = timed(session.device, lambda: generated(session, inputs, 1 + new), seconds=0.0, least=1, most=1)
    step = (many.typical - one.typical) / new
    return {**figures_of(session, batch, prompt, step, one.typical), "peak_gb": many.peak_bytes / 1e9}


class StaticSteps:
    """Steps of one token over a static cache whose every shape and address stays: they can be recorded and replayed."""

    def __init__(self, session: Session, inputs: dict[str, torch.Tensor]) -> None:
        self._model = session.model.eval()
        prompt = inputs["input_ids"].shape[1]
        length = -(-(prompt + session.size.new_tokens + 16) // 64) * 64  # kernels read masks of whole blocks
        shown = {name: value for name, value in inputs.items() if name != "attention_mask"}  # no padding
        self.cache = StaticCache(config=self._model.config, max_cache_len=length)
        output = self._model(**shown, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.token = output.logits[:, -1:].argmax(-1)
        self.position = torch.full((1, 1), prompt, device=self.token.device)
        self._places = torch.arange(length, device=self.token.device)

    def __call__(self) -> None:
        """``token`` becomes the next one."""
        seen = (self._places <= self.position)[None, None]
        logits = self._model(
            input_ids=self.token,
            attention_mask=seen,
            position_ids=self.position.expand(len(self.token), -1),
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        self.token.copy_(logits[:, -1:].argmax(-1))
        self.position.add_(1)


CHECKED = 6
"""Tokens that are compared with the library's."""


def fused(session: Session, batch: int) -> Figures:
    """The recorded step with training's fused layers, whose chains are one kernel each."""
    with fused_layers(session.model, wanted=True):
        return recorded(session, batch)


def library_fused(session: Session, batch: int) -> Figures:
    """``generate`` with training's fused layers: fewer kernels for the host to start."""
    with fused_layers(session.model, wanted=True):
        return library(session, batch)


@torch.no_grad()
def recorded(session: Session, batch: int) -> Figures:
    """One step over a static cache, recorded as a CUDA graph and replayed: no time of the host's in it."""
    inputs, new = prompts(session, batch), session.size.new_tokens
    prompt = inputs["input_ids"].shape[1]
    filled = timed(session.device, lambda: StaticSteps(session, inputs), seconds=0.0, most=2)
    step = StaticSteps(session, inputs)
    eager = timed(session.device, step, seconds=0.0, least=3, most=3)
    replay = session.device.graph(step)
    run = timed(session.device, replay, seconds=session.step_seconds, least=3, most=max(3, new - 10))
    kernels = profile(replay, session.device)
    return {
        **figures_of(session, batch, prompt, run.typical, filled.typical),
        "kernels": kernels,
        "eager_step_ms": eager.typical * 1e3,
        "peak_gb": run.peak_bytes / 1e9,
        "tokens_as_the_librarys": as_the_librarys(session, inputs),
    }


def as_the_librarys(session: Session, inputs: dict[str, torch.Tensor]) -> float:
    """Share of the first tokens that are the ones ``generate`` gives."""
    step = StaticSteps(session, inputs)
    tokens = [step.token.clone()]
    for _ in range(CHECKED - 1):
        step()
        tokens.append(step.token.clone())
    theirs = generated(session, inputs, CHECKED)[:, -CHECKED:]
    return float((torch.cat(tokens, 1) == theirs).float().mean())
