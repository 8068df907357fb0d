"""docs/numerics.md holds a row for every case, on both attention implementations, and for every planted fault."""

from pathlib import Path

import pytest

from tests.helpers import official
from tests.helpers.comparison import LIMITS
from tests.helpers.planted_faults import FAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "numerics.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not official.available(), reason=official.ABSENT)
@pytest.mark.parametrize("attention", official.ATTENTION)
def test_every_case_has_its_row(attention: str) -> None:
    missing = [case_id for case_id in official.case_ids() if f"| `{case_id}` | {attention} |" not in PAGE]
    assert not missing


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_row(fault: str) -> None:
    row = next((line for line in PAGE.splitlines() if line.startswith(f"| {fault} | `{FAULTS[fault].official}` |")), "")
    assert row.split("|")[3].strip(), "what noticed it"


def test_the_figures_of_the_page_are_within_the_limit() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `p3")]
    assert rows
    assert max(float(row[3]) for row in rows) <= LIMITS["logits"]
