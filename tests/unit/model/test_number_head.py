"""The number head: its scale, its loss, its file, and the official layout without it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from phisight.core.errors import CheckpointError
from phisight.model.modeling import Phi3VisionForConditionalGeneration
from phisight.model.number_head import (
    MOST_KNOWN,
    NUMBER_HEAD,
    NumberHead,
    answer_index,
    attach_head,
    detached_head,
    head_of,
    load_number_head,
    restoring_head,
)
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor

PRICES = [90.0, 120.0, 120.0, 470.0, 1290.0]
PRICE = torch.zeros(5, dtype=torch.int64)
"""The field of each of these numbers."""
LABELS = torch.tensor([[-100, -100, 5, 6, 7], [-100, 8, 9, -100, -100]])
NUMBERS = torch.full((2, 5), math.nan)
NUMBERS[0, 2], NUMBERS[1, 0] = 100.0, 900.0


@pytest.fixture
def head() -> NumberHead:
    torch.manual_seed(0)
    found = NumberHead.fit(8, {"price": PRICES})
    torch.nn.init.normal_(found.outer.weight)
    return found


class _Loss(torch.nn.Module):
    """The head's loss as a forward pass."""

    def __init__(self, head: NumberHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, *args: Any) -> torch.Tensor:
        return self.head.loss(*args)


@pytest.fixture(scope="module")
def model() -> Any:
    processor = tiny_processor(["Price: 12"] * 4, vocab_size=320)
    return tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=1), seed=1)


def test_a_new_head_answers_the_middle_of_the_training_rows() -> None:
    assert NumberHead.fit(8, {"price": PRICES}).numbers(torch.randn(3, 8), [0] * 3).tolist() == [120.0] * 3


def test_values_and_numbers_are_one_scale(head: NumberHead) -> None:
    values = head.standardize(torch.tensor([120.0, 470.0, 1290.0]), PRICE[:3])
    back = values.double() * head.spread + head.centre
    torch.testing.assert_close(back, torch.tensor([120.0, 470.0, 1290.0]).double().log(), rtol=1e-6, atol=1e-6)
    assert values[0] == pytest.approx(0.0, abs=1e-6)
    assert float(head.standardize(torch.tensor(PRICES), PRICE).std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_answers_are_numbers_of_the_training_rows(head: NumberHead) -> None:
    assert set(head.numbers(torch.randn(200, 8) * 3, [0] * 200).tolist()) <= set(PRICES)


def test_a_forgotten_scale_shows(head: NumberHead) -> None:
    hidden = torch.randn(20, 8)
    right = head.numbers(hidden, [0] * 20)
    head.spread.fill_(0.01)
    assert not torch.equal(head.numbers(hidden, [0] * 20), right)


def test_numbers_that_are_not_all_positive_are_taken_as_they_are() -> None:
    head = NumberHead.fit(4, {"change": [-3.0, 0.0, 3.0]})
    assert not bool(head.logarithmic[0])
    assert head.standardize(torch.tensor([3.0]), PRICE[:1]).item() == pytest.approx(3 / math.sqrt(6), abs=1e-6)


def test_a_number_below_the_training_rows_has_a_finite_value(head: NumberHead) -> None:
    assert torch.equal(
        head.standardize(torch.tensor([0.0]), PRICE[:1]), head.standardize(torch.tensor([90.0]), PRICE[:1])
    )


def test_many_known_numbers_are_thinned_with_both_ends_kept() -> None:
    known = NumberHead.fit(4, {"x": list(range(1, 10_001))}).known(0)
    assert len(known) == MOST_KNOWN
    assert known[[0, -1]].tolist() == [1, 10_000]


def test_answers_begin_with_the_last_token_of_the_prompt() -> None:
    answer, tokens = answer_index(LABELS)
    assert answer.tolist() == [[-1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert tokens.tolist() == [3, 2]
    packed = torch.tensor([[-100, 5, 6, -100, -100, 7]])
    answer, tokens = answer_index(packed)
    assert answer.tolist() == [[0, 0, 0, 0, 1, 1]]
    assert tokens.tolist() == [2, 1]


def test_the_loss_over_micro_batches_is_that_of_the_batch(head: NumberHead) -> None:
    hidden = torch.randn(2, 5, 8)
    whole = head.loss(hidden, LABELS, NUMBERS, 5)
    parts = [head.loss(hidden[row : row + 1], LABELS[row : row + 1], NUMBERS[row : row + 1], 5) for row in (0, 1)]
    torch.testing.assert_close(whole, parts[0] + parts[1])
    torch.testing.assert_close(whole, head.loss(hidden, LABELS, NUMBERS, None))
    torch.testing.assert_close(
        whole, head.loss(hidden.reshape(1, 10, 8), LABELS.reshape(1, 10), NUMBERS.reshape(1, 10), 5)
    )
    values = head(hidden[[0, 1], [2, 0]])[:, 0]
    gaps = (values - head.standardize(torch.tensor([100.0, 900.0]), PRICE[:2])).abs()
    assert whole.item() == pytest.approx((3 * gaps[0] + 2 * gaps[1]).item() / 5, rel=1e-5)


def test_each_field_reads_at_its_own_place() -> None:
    torch.manual_seed(0)
    head = NumberHead.fit(8, {"price": PRICES, "weight": [1.0, 2.0, 4.0]})
    torch.nn.init.normal_(head.outer.weight)
    hidden = torch.randn(1, 5, 8)
    numbers = torch.tensor([[math.nan, 100.0, math.nan, 3.0, math.nan]])
    values = head(hidden[0, [1, 3]])[[0, 1], [0, 1]]
    gaps = (values - head.standardize(torch.tensor([100.0, 3.0]), torch.tensor([0, 1]))).abs()
    assert head.loss(hidden, LABELS[:1], numbers, None).item() == pytest.approx(gaps.mean().item(), rel=1e-5)


def test_the_gradient_of_the_loss(head: NumberHead) -> None:
    double = head.double()

    def loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        changed = {"head.outer.weight": weight}
        found: torch.Tensor = torch.func.functional_call(_Loss(double), changed, (hidden, LABELS, NUMBERS, 7))
        return found

    hidden = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (hidden, double.outer.weight.detach().clone().requires_grad_()))


def test_only_the_place_before_a_number_gets_a_gradient(head: NumberHead) -> None:
    hidden = torch.randn(2, 5, 8, requires_grad=True)
    torch.autograd.backward(head.loss(hidden, LABELS, NUMBERS, None))
    assert hidden.grad is not None
    assert hidden.grad.abs().sum(-1).nonzero().tolist() == [[0, 2], [1, 0]]


def test_numbers_and_answers_must_match(head: NumberHead) -> None:
    with pytest.raises(CheckpointError, match="1 numbers for 2 answers with 1 each"):
        head.loss(torch.randn(2, 5, 8), LABELS, NUMBERS.where(NUMBERS != 900, math.nan), None)


def test_a_checkpoint_keeps_the_official_layout_and_the_head_beside_it(model: Any, tmp_path: Path) -> None:
    plain = set(model.state_dict())
    head = NumberHead.fit(model.config.hidden_size, {"price": PRICES})
    torch.nn.init.normal_(head.outer.weight)
    attach_head(model, head)
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == plain
    again = Phi3VisionForConditionalGeneration.from_pretrained(tmp_path)
    hidden = torch.randn(4, model.config.hidden_size)
    loaded = head_of(again)
    assert loaded is not None
    assert loaded.fields == ["price"]
    assert torch.equal(loaded(hidden), head(hidden))
    assert torch.equal(loaded.numbers(hidden, [0] * 4), head.numbers(hidden, [0] * 4))
    attach_head(model, None)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / NUMBER_HEAD).exists(), "a head of an earlier run must not stay"


def test_a_state_dict_handed_in_is_split(model: Any, tmp_path: Path) -> None:
    attach_head(model, NumberHead.fit(model.config.hidden_size, {"price": PRICES}))
    state = {name: value + 1 if "outer.bias" in name else value for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=state)
    stored = load_number_head(tmp_path)
    assert stored is not None
    assert stored.outer.bias.tolist() == [1.0]
    assert not any("number_head" in name for name in load_file(tmp_path / "model.safetensors"))
    attach_head(model, None)


def test_taken_off_and_restoring_head(model: Any, tmp_path: Path) -> None:
    attach_head(model, NumberHead.fit(model.config.hidden_size, {"price": PRICES}))
    model.save_pretrained(tmp_path)
    head = head_of(model)
    assert head is not None
    torch.nn.init.normal_(head.outer.weight)
    with detached_head(model):
        assert head_of(model) is None
    with restoring_head(model, tmp_path):
        assert head_of(model) is None
    assert head_of(model) is head
    assert not head.outer.weight.any()
    (tmp_path / NUMBER_HEAD).unlink()
    with pytest.raises(CheckpointError, match="has no number_head"), restoring_head(model, tmp_path):
        pass
    attach_head(model, None)


def test_a_file_that_is_no_head(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / NUMBER_HEAD)
    with pytest.raises(CheckpointError, match="is not a number head"):
        load_number_head(tmp_path)
    (tmp_path / NUMBER_HEAD).write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_number_head(tmp_path)


def test_a_model_without_a_number_head_attribute() -> None:
    with pytest.raises(CheckpointError, match="has no number_head attribute"):
        attach_head(torch.nn.Linear(2, 2), NumberHead.fit(2, {"price": PRICES}))
