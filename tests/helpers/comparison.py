"""What a model computes for a golden case, how far that is from the recorded values, and how far it may be.

``observe`` runs the production path (processor, model, loss, backward) once and records on the way; ``deviations``
gives one number a quantity; ``require_parity`` refuses what is over the limit. Tests, planted faults and the table in
docs/numerics.md all use these three.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from tests.helpers.golden_case import GoldenCase

CLIP_SAMPLE = torch.tensor([0, 1, 2, 24, 25, 300, 576])
"""Tokens of the tower that a case stores, of its first two crops; a smaller tower stores those it has."""

LIMITS = {
    "input_ids": 0.0,
    "attention_mask": 0.0,
    "image_sizes": 0.0,
    "pixel_lattice": 2e-5,
    "clip_layer": 1e-4,
    "image_features": 1e-4,
    "inputs_embeds": 1e-4,
    "hidden_norm": 2e-4,
    "logits": 1e-4,
    "logsumexp": 1e-4,
    "argmax": 0.0,
    "loss": 3e-5,
    "gradients": 2e-4,
    "gradient_norms": 2e-4,
    "gradients_none": 0.0,
}
"""Largest deviation of each quantity: absolute for values, relative for gradients, a count for ids."""

CLEAR_GAP = 1e-3
"""The most probable token counts only where it leads the second by more than this."""

NO_GRADIENT = 1e-6
"""A gradient norm below this part of the total is noise around zero (the key biases', which softmax cancels)."""


class ParityError(AssertionError):
    """A model does not compute what is recorded."""


@contextmanager
def _recording(model: Any, seen: dict[str, Any]) -> Iterator[None]:
    """Record what passes the inner interfaces during a forward pass."""
    inner = model.model
    vision = inner.vision_embed_tokens
    encoder = vision.img_processor.vision_model.encoder
    with ExitStack() as hooks:

        def on(module: Any, name: str, pick: Any) -> None:
            handle = module.register_forward_hook(
                lambda _module, args, kwargs, output: seen.__setitem__(name, pick(args, kwargs, output)),
                with_kwargs=True,
            )
            hooks.callback(handle.remove)

        on(vision, "image_features", lambda _args, _kwargs, rows: torch.cat(list(rows)).detach())
        on(encoder.layers[-2], "clip_layer", lambda _args, _kwargs, out: out.detach())
        on(inner.layers[0], "inputs_embeds", lambda args, _kwargs, _out: args[0].detach())
        on(inner.norm, "hidden_norm", lambda _args, _kwargs, out: out.detach())
        yield


def observe(case: GoldenCase, model: Any, processor: Any) -> dict[str, Any]:
    """Everything a case may store, computed by ``model`` from the prompts."""
    batch = case.encode(processor)
    return observe_batch(case, model, batch)


def observe_batch(case: GoldenCase, model: Any, batch: dict[str, Tensor]) -> dict[str, Any]:
    """The same from an encoded batch; only the batch where its length is already wrong."""
    seen: dict[str, Any] = {**batch, "image_token_id": model.config.image_token_id}
    if batch["input_ids"].shape != case.tensors["labels"].shape:
        return seen
    model.zero_grad(set_to_none=True)
    with _recording(model, seen), torch.set_grad_enabled(case.has_gradients):
        output = model(**batch, labels=case.tensors["labels"], use_cache=False)
        if "clip_layer" in seen:
            seen["clip_layer"] = seen["clip_layer"][_computed_crops(model, batch)]
        seen["logits"] = output.logits.detach()
        seen["loss"] = output.loss.item()
        if case.has_gradients:
            output.loss.backward()
            seen["gradients"] = {name: parameter.grad for name, parameter in model.named_parameters()}
    return seen


def _computed_crops(model: Any, batch: dict[str, Tensor]) -> list[int]:
    """For each used crop of the batch the place where the tower computed it; equal crops are computed once."""
    vision = model.model.vision_embed_tokens
    _, places = vision._distinct_crops(batch["pixel_values"], vision.grids(batch["image_sizes"]))
    return [place for of_image in places for place in of_image]


def deviations(case: GoldenCase, seen: dict[str, Any]) -> dict[str, float]:
    """Largest deviation of each stored quantity; infinite where shapes differ."""
    stored = case.tensors
    found = {
        "input_ids": _unequal(case.placeholders(seen["image_token_id"]), seen["input_ids"]),
        "attention_mask": _unequal(stored["attention_mask"], seen["attention_mask"]),
    }
    if "logits" not in seen:
        return found
    if case.has_images:
        found["image_sizes"] = _unequal(stored["image_sizes"], seen["image_sizes"])
        found |= _image_deviations(stored, seen)
    row, column = stored["positions"].unbind(1)
    for name in ("inputs_embeds", "hidden_norm"):
        found[name] = _distance(stored[name], seen[name][row, column])
    found |= _logit_deviations(case, seen["logits"])
    found["loss"] = abs(case.loss - seen["loss"])
    if case.has_gradients:
        found |= _gradient_deviations(case, seen["gradients"])
    return found


def _image_deviations(stored: dict[str, Tensor], seen: dict[str, Any]) -> dict[str, float]:
    found = {}
    if "pixel_lattice" in stored:
        found["pixel_lattice"] = _distance(stored["pixel_lattice"], lattice(seen["pixel_values"]))
    rows = stored["image_feature_rows"]
    features = seen["image_features"]
    inside = len(features) > int(rows.max())
    found["image_features"] = _distance(stored["image_features"], features[rows]) if inside else float("inf")
    if "clip_layer_m2_sample" in stored:
        sample = clip_sample(seen["clip_layer"]) if "clip_layer" in seen else torch.zeros(0)
        found["clip_layer"] = _distance(stored["clip_layer_m2_sample"], sample)
    return found


def lattice(pixel_values: Tensor) -> Tensor:
    """The pixels that our own cases store."""
    return pixel_values[..., 3::13, 5::17]


def clip_sample(hidden: Tensor) -> Tensor:
    """The tokens of the tower that a case stores."""
    return hidden[:2, CLIP_SAMPLE[hidden.shape[1] > CLIP_SAMPLE]]


def _logit_deviations(case: GoldenCase, logits: Tensor) -> dict[str, float]:
    stored = case.tensors
    row, column = stored["positions"].unbind(1)
    sampled = _distance(stored["logits"], logits[row, column][:, stored["vocab_ids"]])
    if "logits_last" in stored:
        ends = stored["attention_mask"].flip(1).argmax(1) if case.pad_side != "left" else torch.zeros(1)
        last = logits.shape[1] - 1 - ends.long()
        sampled = max(sampled, _distance(stored["logits_last"], logits[torch.arange(len(last)), last]))
    real = stored["attention_mask"].bool()
    clear = real & (stored["top2_gap"] > CLEAR_GAP)
    return {
        "logits": sampled,
        "logsumexp": _distance(stored["logsumexp"][real], logits.logsumexp(-1)[real]),
        "argmax": _unequal(stored["argmax"][clear], logits.argmax(-1)[clear]),
    }


def _gradient_deviations(case: GoldenCase, gradients: dict[str, Tensor | None]) -> dict[str, float]:
    stored = case.tensors
    expected_norms = dict(zip(case.grad_norm_names, stored["grad_norms"].tolist(), strict=True))
    negligible = NO_GRADIENT * sum(norm**2 for norm in expected_norms.values()) ** 0.5
    largest = 0.0
    for key, value in stored.items():
        kind, _, name = key.partition("/")
        if kind not in ("grad", "grad_rows"):
            continue
        gradient = gradients.get(name)
        if gradient is None:
            return {"gradients": float("inf")}
        part = gradient if kind == "grad" else gradient[stored["grad_vocab_ids"]]
        largest = max(largest, float((part - value).norm() / max(value.norm().item(), negligible)))
    norms = [
        abs(_norm(gradients.get(name)) - norm) / max(norm, negligible) if norm > negligible else 0.0
        for name, norm in expected_norms.items()
    ]
    wrongly = [name for name in case.grad_none_names if gradients.get(name) is not None]
    return {"gradients": largest, "gradient_norms": max(norms), "gradients_none": float(len(wrongly))}


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else gradient.double().norm().item()


def _distance(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    difference = (expected.float() - found.float()).abs()
    return float("inf") if bool(difference.isnan().any()) else float(difference.max())


def _unequal(expected: Tensor, found: Tensor) -> float:
    return float("inf") if expected.shape != found.shape else float((expected != found).sum())


def over_the_limit(found: dict[str, float]) -> dict[str, float]:
    """The deviations that are too large."""
    return {name: value for name, value in found.items() if not value <= LIMITS[name]}


def require_parity(case: GoldenCase, found: dict[str, float]) -> None:
    """ParityError names every quantity over its limit."""
    wrong = over_the_limit(found)
    if wrong:
        shown = ", ".join(f"{name} {value:.1e} (limit {LIMITS[name]:.0e})" for name, value in wrong.items())
        raise ParityError(f"{case.id}: {shown}")
