"""Row 4: how good the answers are, how sure that is, and whether the picture had a part in them.

found = read_rows(folder, task, "test")
real = evaluate(predictor, found.rows, task, images="real", seed=0, journal=run / "predictions.real.jsonl")
shuffled = evaluate(predictor, found.rows, task, images="shuffled", seed=0, journal=...)
write_predictions(run, [real, shuffled])
scores = scores_of({"real": real, "shuffled": shuffled}, left_out=found.left_out)
"""

from phisight.evaluate.intervals import Interval, SplitConformal, interval, paired_difference
from phisight.evaluate.metrics import METRICS, Metric, alias
from phisight.evaluate.pictures import MODES, Images
from phisight.evaluate.predictions import Predictions, write_predictions
from phisight.evaluate.rows import EvalRow, EvalRows, read_rows
from phisight.evaluate.runner import evaluate
from phisight.evaluate.scores import figures, scores_of

__all__ = [
    "METRICS",
    "MODES",
    "EvalRow",
    "EvalRows",
    "Images",
    "Interval",
    "Metric",
    "Predictions",
    "SplitConformal",
    "alias",
    "evaluate",
    "figures",
    "interval",
    "paired_difference",
    "read_rows",
    "scores_of",
    "write_predictions",
]
