"""Print the tables of benchmarks/results/parity-*.md: the cases, or with ``--faults`` the planted faults."""

from __future__ import annotations

import argparse
import math
import sys

import pytest
from transformers.utils import logging

from tests.helpers import official
from tests.helpers.comparison import LIMITS, deviations, observe
from tests.helpers.fault_detection import noticed_by
from tests.helpers.planted_faults import FAULTS

COLUMNS = ("logits", "logsumexp", "loss", "hidden_norm", "image_features", "gradients")


def power(value: float | None) -> str:
    """A deviation in a cell."""
    if value is None:
        return ""
    return "other shape" if math.isinf(value) else f"{value:.1e}" if value else "0"


def cases_table() -> None:
    """One row a case and attention implementation."""
    print("| case | attention | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    print("| *limit* | | " + " | ".join(power(LIMITS[column]) for column in COLUMNS) + " |")
    for case_id in official.case_ids():
        case = official.load_case(case_id)
        for attention in official.ATTENTION:
            found = deviations(case, observe(case, *official.load_model(case_id, attention)))
            if case.pad_side == "left" and attention == "sdpa":
                del found["loss"]
            cells = [power(found.get(column)) for column in COLUMNS]
            print(f"| `{case_id}` | {attention} | " + " | ".join(cells) + " |", flush=True)


def faults_table() -> None:
    """One row a fault: the case that shows it and what exceeds its limit."""
    print("| planted fault | official case | over the limit |")
    print("|---|---|---|")
    for fault, planted in FAULTS.items():
        with pytest.MonkeyPatch.context() as patch:
            over = noticed_by(fault, patch)
        worst = sorted(over.items(), key=lambda item: -item[1] / LIMITS.get(item[0], 1) if LIMITS.get(item[0]) else 0)
        shown = ", ".join(
            "`ImagePlaceholderError`" if name == "refused" else f"{name} {power(v)}" for name, v in worst[:3]
        )
        print(f"| {fault} | `{planted.official}` | {shown} |", flush=True)


def main() -> None:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", action="store_true", help="the planted faults instead of the cases")
    asked = parser.parse_args()
    if not official.available():
        sys.exit(official.ABSENT)
    logging.disable_progress_bar()
    faults_table() if asked.faults else cases_table()


if __name__ == "__main__":
    main()
