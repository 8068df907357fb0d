"""The last position alone is computed as among all: hidden states, and the keys and values of every position."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from phisight.model.attention import run_to_last_position
from phisight.train.acceleration.patch import fused_layers
from tests.helpers import small_model

CHANGES = [
    {},
    {"attention": "eager"},
    {"num_key_value_heads": 2},
    {"sliding_window": 5},
    {"attention": "eager", "num_key_value_heads": 1, "sliding_window": 4},
]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("lengths", [[9, 9], [12, 7, 1], [small_model.ORIGINAL_LENGTH + 4, 20]])
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_it_is_that_of_the_whole_forward_pass(changes: dict[str, Any], lengths: list[int], *, fused: bool) -> None:
    model = small_model.model(**changes).eval()
    width = max(lengths)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 100, (len(lengths), width), generator=generator)
    mask = torch.tensor([[0] * (width - length) + [1] * length for length in lengths])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    caches = DynamicCache(), DynamicCache()
    with torch.no_grad(), fused_layers(model, wanted=fused):
        whole = model.model(ids, mask, positions, past_key_values=caches[0], use_cache=True).last_hidden_state[:, -1]
        last = run_to_last_position(model.model, model.model.embed(ids), mask, positions, caches[1])
    torch.testing.assert_close(last, whole, rtol=1e-4, atol=1e-5)
    real = mask.bool()
    for ours, theirs in zip(caches[1].layers, caches[0].layers, strict=True):
        for one, other in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
            torch.testing.assert_close(one.transpose(1, 2)[real], other.transpose(1, 2)[real], rtol=1e-4, atol=1e-5)
