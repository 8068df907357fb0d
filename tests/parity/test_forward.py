"""One forward (and backward) pass of every recorded case, on both attention implementations."""

from typing import NamedTuple

import pytest
import torch

from tests.helpers import official
from tests.helpers.comparison import LIMITS, deviations, observe, over_the_limit

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)

ALWAYS = ("input_ids", "attention_mask", "inputs_embeds", "hidden_norm", "logits", "logsumexp", "argmax")
IMAGES = ("image_sizes", "image_features", "clip_layer")
GRADIENTS = ("gradients", "gradient_norms", "gradients_none")


class Outcome(NamedTuple):
    """Deviations of one case on one attention implementation."""

    case_id: str
    attention: str
    found: dict[str, float]


@pytest.fixture(
    scope="session",
    params=[(case_id, attention) for attention in official.ATTENTION for case_id in official.case_ids()],
    ids=lambda param: "-".join(param),
)
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """Computed once for all tests of a case; pytest runs those together."""
    case_id, attention = request.param
    case = official.load_case(case_id)
    return Outcome(case_id, attention, deviations(case, observe(case, *official.load_model(case_id, attention))))


def test_every_stored_quantity_is_compared(outcome: Outcome) -> None:
    case = official.load_case(outcome.case_id)
    expected = {*ALWAYS, "loss", *(IMAGES if case.has_images else ()), *(GRADIENTS if case.has_gradients else ())}
    assert set(outcome.found) == expected


@pytest.mark.parametrize("quantity", [*ALWAYS, *IMAGES, *GRADIENTS])
def test_equal_to_the_official_model(outcome: Outcome, quantity: str) -> None:
    if quantity in outcome.found:
        assert outcome.found[quantity] <= LIMITS[quantity]


def test_loss(outcome: Outcome) -> None:
    if official.load_case(outcome.case_id).pad_side == "left" and outcome.attention == "sdpa":
        pytest.skip("the recorded loss counts first tokens predicted from padding: see test_loss_of_left_padded_rows")
    assert outcome.found["loss"] <= LIMITS["loss"]


@pytest.mark.parametrize("case_id", [one["id"] for one in official.entries("cases") if one["pad_side"] == "left"])
def test_loss_of_left_padded_rows(case_id: str) -> None:
    # The place before a row's first token is padding with nothing to attend to; what it predicts is arbitrary and
    # differs between attention implementations. Without those labels they agree.
    case = official.load_case(case_id)
    mask = case.tensors["attention_mask"]
    first = mask.argmax(1)
    labels = case.tensors["labels"].clone()
    labels[torch.arange(len(first)), first] = torch.where(first > 0, -100, labels[torch.arange(len(first)), first])
    losses = []
    for attention in official.ATTENTION:
        model, processor = official.load_model(case_id, attention)
        with torch.no_grad():
            losses.append(model(**case.encode(processor), labels=labels, use_cache=False).loss.item())
    assert abs(losses[0] - losses[1]) <= LIMITS["loss"]
    assert abs(losses[0] - case.loss) > 1e-3, "the recorded loss counts those labels"


@pytest.mark.parametrize("case_id", [one for one in official.case_ids() if official.load_case(one).has_images])
def test_official_negative_ids_fill_the_same_slots(case_id: str) -> None:
    case = official.load_case(case_id)
    model, processor = official.load_model(case_id, "sdpa")
    batch = case.encode(processor)
    negative = case.tensors["input_ids"].clone()
    with torch.no_grad():
        ours = model.model.embed(batch["input_ids"], batch["pixel_values"], batch["image_sizes"])
        theirs = model.model.embed(negative, batch["pixel_values"], batch["image_sizes"])
    assert torch.equal(ours, theirs)
    assert torch.equal(negative, case.tensors["input_ids"]), "ids were changed in place"


@pytest.mark.parametrize("case_id", ["p3_img_nc1_full", "p35_batch_right"])
def test_official_negative_ids_give_the_same_logits_and_loss(case_id: str) -> None:
    case = official.load_case(case_id)
    model, processor = official.load_model(case_id, "sdpa")
    batch = case.encode(processor)
    negative = case.tensors["input_ids"]
    with torch.no_grad():
        ours = model(**batch, labels=case.tensors["labels"])
        theirs = model(
            **{**batch, "input_ids": negative}, labels=negative.masked_fill(batch["attention_mask"] == 0, -100)
        )
    assert torch.equal(ours.logits, theirs.logits)
    assert abs(theirs.loss.item() - ours.loss.item()) <= LIMITS["loss"], "image placeholders are no labels"


BF16_CASES = [one["id"] for one in official.entries("cases") if "bf16_max_abs_diff_vs_fp32" in one]


@pytest.mark.parametrize("case_id", BF16_CASES)
def test_bfloat16_stays_as_close_as_the_official_model(case_id: str) -> None:
    case, about = official.load_case(case_id), official.entry(case_id)
    model, processor = official.load_model(case_id, "eager", torch.bfloat16)
    row, column = case.tensors["positions"].unbind(1)
    with torch.no_grad():
        logits = model(**case.encode(processor), use_cache=False).logits
    sampled = logits[row, column][:, case.tensors["vocab_ids"]].float()
    limit = 2 * about["bf16_max_abs_diff_vs_fp32"]
    assert (sampled - case.tensors["logits"]).abs().max() <= limit
    assert (sampled - case.tensors["bf16_logits"]).abs().max() <= limit
    agreeing = (logits.argmax(-1) == case.tensors["argmax"]).float().mean()
    assert agreeing >= about["bf16_argmax_agree"] - 0.02


def test_the_comparison_can_fail() -> None:
    assert over_the_limit({"logits": 1.1e-4, "loss": float("nan"), "argmax": 1.0, "input_ids": 0.0}).keys() == {
        "logits",
        "loss",
        "argmax",
    }
