"""The project's own recorded cases: they hold on this machine, and they notice every planted fault.

Needs nothing but the clone; the same faults are planted under the official cases in tests/parity.
"""

import pytest
import torch

from phisight.core.errors import ImagePlaceholderError
from tests.golden import record
from tests.helpers import official, small_model
from tests.helpers.comparison import deviations, observe, over_the_limit, require_parity
from tests.helpers.planted_faults import FAULTS


@pytest.mark.parametrize("attention", official.ATTENTION)
@pytest.mark.parametrize("name", record.prompts())
def test_recorded_cases_hold(name: str, attention: str) -> None:
    case = record.load()[name]
    found = deviations(
        case, observe(case, small_model.model(attention=attention), small_model.processor(record.NUM_CROPS))
    )
    require_parity(case, found)
    assert {"logits", "loss", "gradients"} <= set(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = record.load()[FAULTS[fault].golden]
    model, processor = small_model.model(), small_model.processor(record.NUM_CROPS)
    FAULTS[fault].plant(model, processor, monkeypatch)
    try:
        found = deviations(case, observe(case, model, processor))
    except ImagePlaceholderError:
        return
    assert over_the_limit(found), f"{fault} changes nothing: {found}"


def test_the_lengths_straddle_the_switch() -> None:
    lengths = {name: record.load()[name].tensors["input_ids"].shape[1] for name in ("at_the_switch", "past_the_switch")}
    assert lengths == {"at_the_switch": small_model.ORIGINAL_LENGTH, "past_the_switch": small_model.ORIGINAL_LENGTH + 1}


def test_the_file_is_small_and_holds_every_grid() -> None:
    assert record.RECORDED.stat().st_size < 100_000
    sizes = torch.cat([case.tensors["image_sizes"] for case in record.load().values() if case.has_images])
    assert {(height // small_model.CROP, width // small_model.CROP) for height, width in sizes.tolist()} == {
        (2, 3),
        (3, 1),
        (3, 2),
    }
