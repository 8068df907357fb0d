"""Layer 4: how good the answers are, how sure that is, and whether the image had a part in them.

    found = read_rows(folder, task, "test")
    real = evaluate(predictor, found.rows, task, images="real", seed=0, answer_log=run / "predictions.real.jsonl")
    shuffled = evaluate(predictor, found.rows, task, images="shuffled", seed=0, answer_log=...)
    write_predictions(run, [real, shuffled])
    scores = scores_of({"real": real, "shuffled": shuffled}, left_out=found.left_out)

Then, each adding one key to the scores:

    seen = {mode: likelihoods(predictor, predictions, limit=256) for mode, predictions in every.items()}
    scores["grounding"] = certificate(every, seen)
    scores["teacher_forced"] = figures(teacher_forced(real, seen["real"]))
    scores["baselines"] = against_baselines(real, fit_baselines(task, train_truths, test_truths, features, features))
    intervals = PredictionIntervals.around(real, fit_prediction_intervals(validation, level=0.8))
    scores["prediction_intervals"] = intervals.scores(real)
    scores["base_model"] = {**figures(base_model_predictions), "tuned_against": ...}
    scores["verdict"] = verdict_of(scores)
    write_json(run / "scores.json", scores)
"""

from phisight.evaluate.baselines import Baseline, against_baselines, fit_baselines
from phisight.evaluate.certificate import certificate, likelihoods, teacher_forced, untested
from phisight.evaluate.comparison import Comparison, compare_predictions
from phisight.evaluate.conformal import PredictionIntervals, fit_prediction_intervals
from phisight.evaluate.generate_answers import evaluate
from phisight.evaluate.image_conditions import MODES, Images, possible_modes
from phisight.evaluate.metrics import METRICS, Metric, alias, deciding, field_deciding, field_metrics, metrics_of
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.predictions_file import write_predictions
from phisight.evaluate.rows import EvalRow, EvalRows, read_rows, sample_of
from phisight.evaluate.scores import figures, scores_of
from phisight.evaluate.statistics.bootstrap import Interval, interval, paired_difference
from phisight.evaluate.statistics.split_conformal import SplitConformal
from phisight.evaluate.verdict import verdict_of

__all__ = [
    "METRICS",
    "MODES",
    "Baseline",
    "Comparison",
    "EvalRow",
    "EvalRows",
    "Images",
    "Interval",
    "Metric",
    "PredictionIntervals",
    "Predictions",
    "SplitConformal",
    "against_baselines",
    "alias",
    "certificate",
    "compare_predictions",
    "deciding",
    "evaluate",
    "field_deciding",
    "field_metrics",
    "figures",
    "fit_baselines",
    "fit_prediction_intervals",
    "interval",
    "likelihoods",
    "metrics_of",
    "paired_difference",
    "possible_modes",
    "read_rows",
    "sample_of",
    "scores_of",
    "teacher_forced",
    "untested",
    "verdict_of",
    "write_predictions",
]
