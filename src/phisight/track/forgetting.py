"""A run folder that is used anew: what trackers keep in it belongs to the run before."""

from __future__ import annotations

from pathlib import Path

from phisight.core import run_folder
from phisight.track.jsonl import EXAMPLES, PAIRS, SUMMARY

WANDB_ID, MLFLOW_ID = "wandb.json", "mlflow.json"
"""Where adapters keep the id of the run they continue."""


def forget(run_dir: Path) -> None:
    """Take out figures, examples and run ids of an earlier run, so that the next one is a run of its own.

    What was sent, or lies in a tracker's own store, stays.
    """
    for name in (run_folder.METRICS, EXAMPLES, PAIRS, SUMMARY, WANDB_ID, MLFLOW_ID):
        (run_dir / name).unlink(missing_ok=True)
