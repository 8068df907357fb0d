"""Planted faults are noticed by the comparison with the official cases (and in tests/golden by our own)."""

import pytest

from tests.helpers import official
from tests.helpers.comparison import deviations, observe, over_the_limit
from tests.helpers.fault_detection import noticed_by
from tests.helpers.planted_faults import FAULTS

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noticed_by(fault, monkeypatch)


def test_a_planted_fault_is_gone_afterwards() -> None:
    case = official.load_case("p3_text_short")
    for fault in ("no rotary positions", "decoder layer dropped", "gate and up swapped", "labels not shifted"):
        with pytest.MonkeyPatch.context() as patch:
            assert noticed_by(fault, patch)
        assert not over_the_limit(deviations(case, observe(case, *official.load_model(case.id, "sdpa"))))
