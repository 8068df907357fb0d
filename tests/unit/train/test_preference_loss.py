"""The preference loss against its formula written down again in NumPy and float64."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from phisight.core.settings import PreferenceSettings
from phisight.train.losses.interface import COUNT
from phisight.train.losses.preference import log_probabilities, predicting_positions, preference_loss, real_pairs

WORDS = 11
SETTINGS = [
    PreferenceSettings(beta=beta, anchor_weight=anchor, image_weight=image, normalize=normalize)
    for beta, anchor, image, normalize in itertools.product((0.1, 0.7), (0.0, 1.5), (0.0, 0.8), (False, True))
]


def sides_of(settings: PreferenceSettings) -> int:
    return 3 if settings.image_weight else 2


def drawn_batch(sides: int, pairs: int = 2, seed: int = 0) -> dict[str, Any]:
    """Rows of unlike lengths, prompts of unlike lengths, padded on the right."""
    draw = np.random.default_rng(seed)
    rows, length = pairs * sides, 9
    labels = torch.full((rows, length), -100)
    for row in range(rows):
        start, tokens = int(draw.integers(2, 5)), int(draw.integers(1, 5))
        labels[row, start : start + tokens] = torch.from_numpy(draw.integers(0, WORDS, tokens))
    reference = torch.from_numpy(-draw.random((pairs, sides)) * 9).float()
    batch = {"input_ids": labels.clamp(min=0), "labels": labels, "sides": sides, "reference": reference}
    return {**batch, "logits_to_keep": predicting_positions(labels)}


def logits_of(batch: dict[str, Any], seed: int = 1) -> torch.Tensor:
    """All logits float64[B, T, V]."""
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(size=(*batch["labels"].shape, WORDS)) * 2)


def kept(logits: torch.Tensor, batch: dict[str, Any]) -> Any:
    """What a model returns that computes the logits that it is asked for."""
    return SimpleNamespace(logits=logits[:, batch["logits_to_keep"]])


def by_hand(logits: np.ndarray, batch: dict[str, Any], settings: PreferenceSettings) -> np.ndarray:
    """Loss of each pair, written as the papers do."""
    labels, sides = batch["labels"].numpy(), batch["sides"]
    rewards = []
    for row, line in enumerate(labels):
        total, tokens = 0.0, 0
        for position in range(1, len(line)):
            if line[position] != -100:
                values = logits[row, position - 1]
                total += values[line[position]] - np.log(np.exp(values).sum())
                tokens += 1
        ratio = total - float(batch["reference"].flatten()[row])
        rewards.append(settings.beta * (ratio / tokens if settings.normalize else ratio))
    losses = []
    for first in range(0, len(rewards), sides):
        chosen, rejected = rewards[first], rewards[first + 1]
        loss = np.log1p(np.exp(-(chosen - rejected)))
        loss += settings.anchor_weight * np.log1p(np.exp(-chosen))
        if sides == 3:
            loss += settings.image_weight * np.log1p(np.exp(-(chosen - rewards[first + 2])))
        losses.append(loss)
    return np.array(losses)


def plain_loss(logits: torch.Tensor, batch: dict[str, Any], settings: PreferenceSettings) -> torch.Tensor:
    """The same in torch, whole sequences and no index arithmetic, for its gradient."""
    labels = batch["labels"]
    gained = logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    labeled = labels[:, 1:] != -100
    ratios = (gained * labeled).sum(1) - batch["reference"].flatten().double()
    if settings.normalize:
        ratios = ratios / labeled.sum(1)
    rewards = (settings.beta * ratios).view(-1, batch["sides"])
    loss = torch.log1p(torch.exp(rewards[:, 1] - rewards[:, 0]))
    loss = loss + settings.anchor_weight * torch.log1p(torch.exp(-rewards[:, 0]))
    if batch["sides"] == 3:
        loss = loss + settings.image_weight * torch.log1p(torch.exp(rewards[:, 2] - rewards[:, 0]))
    return loss.sum()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_value_and_gradient_are_those_of_the_formula(settings: PreferenceSettings) -> None:
    batch = drawn_batch(sides_of(settings))
    logits = logits_of(batch).requires_grad_()
    divisor = torch.tensor(2.0)
    value = preference_loss(settings).compute(kept(logits, batch), batch, divisor).loss
    value.backward()  # type: ignore[no-untyped-call]
    expected = by_hand(logits.detach().numpy(), batch, settings).sum() / 2
    assert float(value.detach()) == pytest.approx(float(expected), rel=2e-5)
    again = logits.detach().clone().requires_grad_()
    (plain_loss(again, batch, settings) / divisor).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert again.grad is not None
    torch.testing.assert_close(logits.grad, again.grad, rtol=2e-4, atol=1e-6)


def test_a_model_that_has_not_moved_has_the_loss_of_a_coin() -> None:
    """Every ratio is 0, so each of the three terms is log 2 times its weight."""
    settings = PreferenceSettings(anchor_weight=0.5, image_weight=2.0)
    batch = drawn_batch(3, pairs=4)
    outputs = kept(logits_of(batch), batch)
    loss = preference_loss(settings)
    moved = loss.compute(outputs, {**batch, "reference": torch.zeros(4, 3)}, torch.tensor(4.0))
    batch["reference"] = _policy(outputs, batch)
    found = loss.compute(outputs, batch, torch.tensor(4.0))
    assert float(found.loss) == pytest.approx(3.5 * np.log(2), rel=1e-6)
    assert float(found.figures["kl"]) == 0
    assert float(moved.figures["kl"]) > 0


def _policy(outputs: Any, batch: dict[str, Any]) -> torch.Tensor:
    return log_probabilities(outputs.logits, batch)[0]


def test_the_sum_over_micro_batches_is_that_of_one_batch() -> None:
    settings = PreferenceSettings()
    batch = drawn_batch(3, pairs=5)
    logits, loss = logits_of(batch), preference_loss(settings)
    divisor = torch.tensor(float(loss.count(batch)))
    whole = loss.compute(kept(logits, batch), batch, divisor)
    parts, sums = [], dict.fromkeys(whole.figures, 0.0)
    for first, last in ((0, 1), (1, 4), (4, 5)):
        rows, pairs = slice(first * 3, last * 3), slice(first, last)
        some = {**batch, **{name: batch[name][rows] for name in ("input_ids", "labels")}}
        some["reference"] = batch["reference"][pairs]
        some["logits_to_keep"] = predicting_positions(some["labels"])
        part = loss.compute(kept(logits[rows], some), some, divisor)
        parts.append(float(part.loss))
        for name, value in part.figures.items():
            sums[name] += float(value)
    assert divisor == 5
    assert sum(parts) == pytest.approx(float(whole.loss), rel=1e-6)
    assert sums == pytest.approx({name: float(value) for name, value in whole.figures.items()}, rel=1e-6)


def test_packed_rows_have_the_loss_of_padded_ones() -> None:
    settings = PreferenceSettings()
    batch = drawn_batch(3, pairs=3)
    logits, loss = logits_of(batch), preference_loss(settings)
    rows, length = batch["labels"].shape
    labels = batch["labels"].reshape(1, -1)
    packed = {
        "labels": labels,
        "logits_to_keep": predicting_positions(labels),
        "sample_lengths": (length,) * rows,
        "sides": 3,
        "reference": batch["reference"],
    }
    flat = logits.reshape(1, rows * length, WORDS)
    expected = loss.compute(kept(logits, batch), batch, torch.tensor(3.0))
    found = loss.compute(kept(flat, packed), packed, torch.tensor(3.0))
    assert float(found.loss) == pytest.approx(float(expected.loss))
    assert {name: float(value) for name, value in found.figures.items()} == pytest.approx(
        {name: float(value) for name, value in expected.figures.items()}
    )


def test_a_dummy_pair_counts_nothing_and_still_has_a_gradient() -> None:
    settings, batch = PreferenceSettings(), drawn_batch(3, pairs=2)
    batch["labels"][3:] = -100
    logits = logits_of(batch).requires_grad_()
    loss = preference_loss(settings)
    value = loss.compute(kept(logits, batch), batch, torch.tensor(1.0))
    assert real_pairs(batch) == 1
    alone = by_hand(logits.detach().numpy()[:3], _first(batch), settings)
    assert float(value.loss.detach()) == pytest.approx(float(alone.sum()), rel=2e-5)
    assert float(value.figures[COUNT]) == 1
    batch["labels"][:] = -100
    nothing = loss.compute(kept(logits, batch), batch, torch.tensor(1.0)).loss
    nothing.backward()  # type: ignore[no-untyped-call]
    assert float(nothing.detach()) == 0
    assert real_pairs(batch) == 0


def _first(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "labels": batch["labels"][:3], "reference": batch["reference"][:1]}


def test_the_figures_say_what_they_are_called() -> None:
    settings = PreferenceSettings(beta=0.5)
    batch = drawn_batch(3, pairs=3)
    outputs = kept(logits_of(batch), batch)
    policy = _policy(outputs, batch).double()
    rewards = 0.5 * (policy - batch["reference"].double())
    figures = preference_loss(settings).compute(outputs, batch, torch.tensor(3.0)).figures
    found = {name: float(value) for name, value in figures.items()}
    tokens = batch["labels"].ne(-100).sum(1).view(3, 3)
    r = ((policy - batch["reference"]) / tokens)[:, :2]
    assert found == pytest.approx(
        {
            COUNT: 3,
            "reward_margin": float((rewards[:, 0] - rewards[:, 1]).sum()),
            "reward_accuracy": float((rewards[:, 0] > rewards[:, 1]).sum()),
            "chosen_log_probability": float(policy[:, 0].sum()),
            "rejected_log_probability": float(policy[:, 1].sum()),
            "kl": float((r.exp() - 1 - r).mean(1).sum()),
            "image_reward_margin": float((rewards[:, 0] - rewards[:, 2]).sum()),
            "image_reward_accuracy": float((rewards[:, 0] > rewards[:, 2]).sum()),
        },
        rel=1e-5,
    )
