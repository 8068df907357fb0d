"""The grounding certificate: does the image have a part in the answers?

The same rows are asked about with their own images, with swapped ones, with blank ones and with those of another
category. Two things are looked at: how probable the true answer is to the model, and how good its answers are.

    uses the image = with swapped images the true answer becomes less probable (Wilcoxon signed-rank, one-sided,
                     p < 0.01) and some field's answers become worse (paired bootstrap, 95 %)

Swapped images decide, since they are of the same kind as the real ones: a blank may only confuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from phisight.core.errors import EvaluationError
from phisight.core.seeding import named_seed
from phisight.evaluate.comparison import Comparison, compare_predictions, deciding
from phisight.evaluate.image_conditions import Images, images_shown
from phisight.evaluate.metrics import MEAN, alias
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.statistics.bootstrap import interval
from phisight.evaluate.verdict import change_text
from phisight.generate import Likelihood, Predictor, Request

P_LIMIT = 0.01
FEW = 10
"""Below this many rows no test can tell."""


def likelihoods(
    predictor: Predictor, predictions: Predictions, *, limit: int = 256, seed: int = 0
) -> dict[int, Likelihood]:
    """How probable the model finds the true answer, by row, with the images of ``predictions``.

    On a sample of at most ``limit`` rows that depends on ``seed`` alone, so that it is the same for all images. A row
    whose image cannot be used has none.
    """
    rows = predictions.rows
    count = min(limit, len(rows))
    generator = np.random.default_rng(named_seed(seed, "likelihoods"))
    sample = sorted(generator.choice(len(rows), count, replace=False).tolist())
    requests = (Request(predictions.task.prompt, images_shown(rows, row, predictions.shown[row])) for row in sample)
    found = predictor.likelihoods(requests, [rows[row].expected for row in sample], on_failure=lambda *_: None)
    return {sample[index]: likelihood for index, likelihood in found}


def teacher_forced(predictions: Predictions, found: Mapping[int, Likelihood]) -> Predictions:
    """What teacher forcing would report on the rows of ``found``: each token predicted behind the true ones.

    Not an answer: with the true title, category and first digits before it, the next digit is easy, also for a model
    that sees nothing. Shown once, beside the answers, to say so.
    """
    order = sorted(found)
    rows = [predictions.rows[row] for row in order]
    forced = {index: found[row].forced for index, row in enumerate(order)}
    indices: dict[int | None, int] = {row: index for index, row in enumerate(order)}
    shown = [indices.get(predictions.shown[row]) for row in order]
    return Predictions.of(predictions.task, rows, predictions.images, shown, forced, {})


def certificate(
    every: Mapping[Images, Predictions], found: Mapping[Images, Mapping[int, Likelihood]], *, seed: int = 0
) -> dict[str, Any]:
    """The certificate for scores.json (key ``grounding``).

    ``every`` holds the answers with real and shuffled images and any of the others, ``found`` the likelihoods of the
    true answers with the same images.

    Returns ``uses_image``, ``line`` (one sentence with the test behind it), and for each kind of images
    ``log_likelihood`` (mean drop a row, interval, p) and ``metrics`` (each comparison real - other).
    """
    missing = [mode for mode in ("real", "shuffled") if mode not in every or mode not in found]
    if missing:
        raise EvaluationError(f"the certificate needs answers and likelihoods with {' and '.join(missing)} images")
    others = [mode for mode in every if mode != "real"]
    drops = {mode: _drop(found["real"], found[mode], seed) for mode in others if mode in found}
    changes = {mode: compare_predictions(every["real"], every[mode], seed=seed) for mode in others}
    worse = _worse(every["real"], changes["shuffled"])
    uses = drops["shuffled"]["p_value"] < P_LIMIT and bool(worse) and drops["shuffled"]["rows"] >= FEW
    return {
        "uses_image": uses,
        "line": _line(uses, drops["shuffled"], worse),
        "log_likelihood": drops,
        "metrics": {mode: {name: one.as_json() for name, one in change.items()} for mode, change in changes.items()},
    }


def untested(why: str) -> dict[str, Any]:
    """What stands in the place of a certificate that cannot be had."""
    return {"uses_image": None, "line": f"uses the image: not checked ({why})", "log_likelihood": {}, "metrics": {}}


def _drop(real: Mapping[int, Likelihood], other: Mapping[int, Likelihood], seed: int) -> dict[str, Any]:
    """Mean of log p(true answer | real image) - log p(true answer | other image), in nats an answer."""
    rows = sorted(set(real) & set(other))
    own = np.asarray([real[row].log_probability for row in rows])
    swapped = np.asarray([other[row].log_probability for row in rows])
    found = interval(MEAN, [own - swapped], seed=seed) if rows else None
    return {
        "rows": len(rows),
        "real": float(own.mean()) if rows else None,
        "other": float(swapped.mean()) if rows else None,
        "drop": float((own - swapped).mean()) if rows else None,
        "interval": [found.low, found.high] if found else None,
        "p_value": _p_value(own - swapped),
    }


def _p_value(differences: NDArray[np.float64]) -> float:
    """One-sided p of the Wilcoxon signed-rank test that differences lie above zero; 1 where nothing differs."""
    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences, alternative="greater", zero_method="zsplit", method="approx").pvalue)


def _worse(real: Predictions, change: Mapping[str, Comparison]) -> list[Comparison]:
    """The fields whose deciding metric is better with real images than with swapped ones."""
    names = [f"{alias(real.task, field)}_{deciding(real.task.fields[field].kind).name}" for field in real.task.names]
    return [change[name] for name in names if name in change and change[name].better]


def _line(uses: bool, drop: Mapping[str, Any], worse: Sequence[Comparison]) -> str:
    if drop["rows"] < FEW:
        return f"uses the image: no (not shown: {drop['rows']} rows are too few to tell, at least {FEW} are needed)"
    test = (
        f"shown another row's image, the true answer's log-likelihood changes by {-drop['drop']:+.2f} nats on "
        f"average over {drop['rows']} rows, Wilcoxon p = {drop['p_value']:.1g}"
    )
    if worse:
        answers = ", ".join(change_text(one.metric, one.left, one.right) for one in worse)
        effect = f"answers become worse: {answers}"
    else:
        effect = "no field's answers become worse"
    return f"uses the image: {'yes' if uses else 'no'} ({test}; {effect})"
