"""Whether the comparison with an official case notices a planted fault."""

import pytest

from phisight.core.errors import ImagePlaceholderError
from tests.helpers import official
from tests.helpers.comparison import deviations, observe, over_the_limit
from tests.helpers.planted_faults import FAULTS


def noticed_by(fault: str, patch: pytest.MonkeyPatch) -> dict[str, float]:
    """Deviations over their limits under a planted fault; an error raised by the model counts as noticed."""
    planted = FAULTS[fault]
    case = official.load_case(planted.official)
    model, processor = official.load_model(planted.official, "sdpa")
    planted.plant(model, processor, patch)
    try:
        return over_the_limit(deviations(case, observe(case, model, processor)))
    except ImagePlaceholderError:
        return {"refused": float("inf")}
