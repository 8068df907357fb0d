"""Experiment trackers: where a run's figures go. Nothing here imports torch.

    tracker = open_tracker(["wandb"], {"wandb": {"mode": "offline", "project": "shop"}})
    tracker.start(run_dir, config)
    tracker.log(20, {"train/loss": 2.1})
    tracker.log_examples(20, [Example(key, jpeg, truth, answer)])
    tracker.log_pairs(20, Pairs("category", "category", truth, predicted))
    tracker.finish({"category_accuracy": 0.97}, {"dataset": Path(...), "best": Path(...)})

JSONL in the run folder is always on; ``read_metrics(run_dir)`` and ``read_steps(path)`` read it back. The others are
imported when named: wandb, tensorboard, mlflow, trackio. A tracker that fails never stops training.
"""

from phisight.track.jsonl import EXAMPLES, PAIRS, SUMMARY, JsonlTracker, cut_back, forget, read_metrics, read_steps
from phisight.track.open_tracker import TRACKERS, open_tracker
from phisight.track.tracker import CompositeTracker, Example, Pairs, Tracker

__all__ = [
    "EXAMPLES",
    "PAIRS",
    "SUMMARY",
    "TRACKERS",
    "CompositeTracker",
    "Example",
    "JsonlTracker",
    "Pairs",
    "Tracker",
    "cut_back",
    "forget",
    "open_tracker",
    "read_metrics",
    "read_steps",
]
