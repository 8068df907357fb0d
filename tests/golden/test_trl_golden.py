"""DPO as TRL computes it: ids, loss, rewards and gradients of the recorded pairs, and faults that must show."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from phisight.core.settings import PreferenceSettings
from phisight.model.attention import attend_by_sample
from phisight.model.loss import IGNORED
from phisight.train.examples import pair_set
from phisight.train.examples.collators import Collator, PackingCollator
from phisight.train.examples.pair_set import PairCollator
from phisight.train.losses import preference
from phisight.train.losses.preference import forward_arguments, log_probabilities, preference_loss
from tests.golden import record_trl
from tests.helpers import small_model

RTOL, ATOL = 2e-4, 2e-5
NORMS = {"rtol": 1e-3, "atol": 1e-4}


def collator(processor: Any, *, packing: bool) -> PairCollator:
    return PairCollator(PackingCollator() if packing else Collator(processor.tokenizer.pad_token_id))


def computed(loss: str, beta: float = record_trl.BETA, *, packing: bool = False) -> dict[str, Tensor]:
    """What the file holds, by phisight: ids, loss, rewards, log-probabilities and gradients of each pair."""
    processor = small_model.processor(record_trl.NUM_CROPS)
    pairs, collate = record_trl.pair_set(processor), collator(processor, packing=packing)
    model, before = record_trl.policy(), small_model.model()
    if packing:
        attend_by_sample(model)
        attend_by_sample(before)
    settings = PreferenceSettings(beta=beta, anchor_weight=0, image_weight=0, normalize=record_trl.LOSSES[loss])
    found: dict[str, Tensor] = {}
    lines: list[list[Tensor]] = []
    for index in range(len(pairs)):
        batch = collate([pairs[index]])
        with torch.no_grad():
            batch["reference"] = log_probabilities(before(**forward_arguments(batch)).logits, batch)[0]
        model.zero_grad()
        outputs = model(**forward_arguments(batch))
        value = preference_loss(settings).compute(outputs, batch, torch.tensor(1.0)).loss
        value.backward()  # type: ignore[no-untyped-call]
        policy = log_probabilities(outputs.logits.detach(), batch)[0][0]
        rewards = beta * (policy - batch["reference"][0])
        lines.append([value.detach(), rewards[0], rewards[1], policy[0], policy[1]])
        gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
        norms = [gradients[name].norm() for name in sorted(gradients)]
        found[f"{loss}:{index}:gradient_norms"] = torch.stack(norms)
        for name in record_trl.GRADIENTS_OF:
            found[f"{loss}:{index}:gradient/{name}"] = gradients[name].clone()
    for number, name in enumerate(record_trl.FIGURES):
        found[f"{loss}:{name}"] = torch.stack([line[number] for line in lines])
    return found


def deviating(found: dict[str, Tensor]) -> list[str]:
    """Names of the recorded tensors that are not met."""
    stored, _ = record_trl.load()
    missed = []
    for name, value in found.items():
        limits = NORMS if "gradient" in name else {"rtol": RTOL, "atol": ATOL}
        scale = float(stored[name].abs().max())
        same = stored[name].shape == value.shape and torch.allclose(
            value, stored[name], rtol=limits["rtol"], atol=limits["atol"] * max(scale, 1.0)
        )
        if not same:
            missed.append(name)
    return missed


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("loss", record_trl.LOSSES)
def test_loss_rewards_and_gradients_are_those_of_trl(loss: str, packing: bool) -> None:
    found = computed(loss, packing=packing)
    assert len(found) == len(record_trl.FIGURES) + 3 * (1 + len(record_trl.GRADIENTS_OF))
    assert deviating(found) == []


@pytest.mark.parametrize("loss", record_trl.LOSSES)
def test_the_pairs_have_the_ids_of_trl(loss: str) -> None:
    """TRL tokenized text and images by its vision collator, phisight by its own examples."""
    stored, about = record_trl.load()
    assert about["trl"] == record_trl.TRL
    assert about["command"] == record_trl.COMMAND
    pairs = record_trl.pair_set(small_model.processor(record_trl.NUM_CROPS))
    for index in range(len(pairs)):
        every, completions = (stored[f"{loss}:{index}:{name}"] for name in ("input_ids", "completion_mask"))
        for row, side in enumerate(pairs[index]["sides"]):
            ids, labeled = side["input_ids"], side["labels"].ne(IGNORED)
            assert every[row, : len(ids)].tolist() == ids.tolist()
            assert completions[row].nonzero()[:, 0].tolist() == labeled.nonzero()[:, 0].tolist()


def _swapped(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda rewards, settings: original(rewards.flip(1), settings)


def _unreferenced(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda policy, tokens, reference, settings: original(policy, tokens, 0 * reference, settings)


def _one_too_many(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda policy, tokens, reference, settings: original(policy, tokens + 1, reference, settings)


FAULTS: dict[str, tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]], str]] = {
    "sides swapped": (preference, "pair_losses", _swapped, "sigmoid"),
    "no reference": (preference, "rewards", _unreferenced, "sigmoid"),
    "a token too many in the length": (preference, "rewards", _one_too_many, "sigmoid_norm"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, plant, loss = FAULTS[fault]
    monkeypatch.setattr(module, name, plant(getattr(module, name)))
    missed = deviating(computed(loss))
    assert f"{loss}:loss" in missed
    assert any("gradient" in one for one in missed)


def test_an_answer_that_lacks_its_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_set, "TURN_END", "")
    assert {f"sigmoid:{name}" for name in record_trl.FIGURES} <= set(deviating(computed("sigmoid")))


def test_another_beta_is_noticed() -> None:
    missed = deviating(computed("sigmoid", record_trl.BETA * 1.01))
    assert {"sigmoid:loss", "sigmoid:rewards/chosen"} <= set(missed)
    assert "sigmoid:logps/chosen" not in missed
