"""The rotary tables of the real configurations (head width 96), under the short and the long factors."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from phisight.model.rope import LongRotaryEmbedding
from tests.helpers import official

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)

MODELS = {"phi3v": "phi-3-vision-128k-instruct", "phi35v": "phi-3.5-vision-instruct"}
LAST_PLACE = {"short": 4095, "long": 4096}
"""A row up to here decides for the factors."""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["short", "long"])
def test_full_size_tables(model: str, kind: str) -> None:
    folder: Path = official.REFERENCE / "official" / MODELS[model]
    stored = official.widened(load_file(official.REFERENCE / "rope_fullsize.safetensors"))
    rope = LongRotaryEmbedding(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    frequencies = rope.inv_freq if kind == "short" else rope.long_inv_freq
    torch.testing.assert_close(frequencies, stored[f"{model}/{kind}_inv_freq"], rtol=1e-6, atol=0)
    assert rope.attention_scaling == pytest.approx(stored[f"{model}/attention_scale"].item(), rel=1e-9)

    positions = stored[f"{model}/{kind}_positions"]
    row = torch.cat([positions, torch.tensor([max(LAST_PLACE[kind], int(positions.max()))])])
    assert kind == "long" or int(positions.max()) <= LAST_PLACE["short"]
    cos, sin = rope(torch.zeros(1), row[None])
    # float32 angles of up to 131,072 radians: one unit in the last place of the angle is 8e-3.
    limit = 1e-6 if kind == "short" else 2e-5
    assert (cos[0, :-1] - stored[f"{model}/{kind}_cos"]).abs().max() <= limit
    assert (sin[0, :-1] - stored[f"{model}/{kind}_sin"]).abs().max() <= limit
