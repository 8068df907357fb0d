"""The grounding certificate: do the answers depend on what the image shows?

The same rows are asked about with their own images, with another product's, with another product's of the same grid,
with blanks and with those of another category. Two things are looked at: how probable the true answer is to the model,
and how good its answers are. Both are compared over groups (products), since rows of one product are one observation.

    worse with other images =  the true answer becomes less probable (p < 0.01 over groups)
                               and some field's answers become worse (p < 0.05 over groups, corrected for the fields)
    yes          worse with shuffled images, and with other images of the same grid
    shape only   worse with shuffled images, but not when the image's grid stays: its size or shape was read, no more
    no           not worse with shuffled images
    too few      fewer than ten groups: neither yes nor no

Shuffled images decide, since they are of the same kind as the real ones: a blank may only confuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from phisight.core.errors import EvaluationError
from phisight.core.seeding import named_seed
from phisight.evaluate.comparison import compare_predictions, field_test
from phisight.evaluate.image_conditions import Images, images_shown
from phisight.evaluate.metrics import alias, field_deciding
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.statistics.group_test import FEW, GroupTest, group_test, holm
from phisight.evaluate.verdict import change_text
from phisight.generate import Likelihood, Predictor, Request

P_LIMIT = 0.01
"""Of the test that the true answer becomes less probable."""
FIELD_LIMIT = 0.05
"""Of the tests of the fields, corrected for their number (Holm)."""

Conclusion = Literal["yes", "shape only", "no", "too few", "not checked"]
_USES: Mapping[Conclusion, bool | None] = {
    "yes": True,
    "shape only": False,
    "no": False,
    "too few": None,
    "not checked": None,
}


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


@dataclass(frozen=True)
class _Field:
    """A field's answers with real images against those with other ones."""

    alias: str
    metric: str
    real: float
    other: float
    test: GroupTest
    p_corrected: float

    @property
    def worse(self) -> bool:
        """The answers become worse with the other images."""
        return self.test.above_zero(FIELD_LIMIT, self.p_corrected)

    def as_json(self) -> dict[str, Any]:
        """For scores.json."""
        shares = {"metric": self.metric, "real": self.real, "other": self.other}
        return {**shares, **_json(self.test), "p_corrected": self.p_corrected, "worse": self.worse}


@dataclass(frozen=True)
class _Condition:
    """Everything that one image condition says in comparison with the real images."""

    likelihood: GroupTest
    real: float | None
    other: float | None
    fields: Sequence[_Field]

    @property
    def groups(self) -> int:
        """Groups behind the weaker of the tests; of the fields that with the most, an optional one may have none."""
        return min(self.likelihood.groups, max(field.test.groups for field in self.fields))

    @property
    def worse(self) -> bool:
        """Less probable true answers and worse answers."""
        return self.likelihood.above_zero(P_LIMIT) and any(field.worse for field in self.fields)


def certificate(
    every: Mapping[Images, Predictions],
    found: Mapping[Images, Mapping[int, Likelihood]],
    *,
    one_grid: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """The certificate for scores.json (key ``grounding``).

    Args:
        every: Answers with real and shuffled images and any of the other conditions.
        found: Likelihoods of the true answers with the same images.
        one_grid: All images have one grid, so that shuffled images are of the same grid.
        seed: Of the bootstrap.

    Returns ``conclusion``, ``uses_image`` (None where it cannot be told), ``line`` (one sentence in plain words),
    ``tests`` (the tests behind it), and for each image condition ``log_likelihood`` (mean drop over groups, interval,
    p), ``fields`` (the deciding metric of each field, tested) and ``metrics`` (each comparison real - other).
    """
    missing = [mode for mode in ("real", "shuffled") if mode not in every or mode not in found]
    if missing:
        raise EvaluationError(f"the certificate needs answers and likelihoods with {' and '.join(missing)} images")
    others = [mode for mode in every if mode != "real"]
    tested = {mode: _condition(every["real"], every[mode], found, mode, seed) for mode in others if mode in found}
    changes = {mode: compare_predictions(every["real"], every[mode], seed=seed) for mode in others}
    control = tested["shuffled"] if one_grid else tested.get("same_grid")
    conclusion, line = _conclude(tested["shuffled"], control)
    return {
        "conclusion": conclusion,
        "uses_image": _USES[conclusion],
        "line": line,
        "tests": [_test_line(mode, one) for mode, one in tested.items()],
        "rows": len(every["real"]),
        "groups": len(set(every["real"].groups)),
        "log_likelihood": {
            mode: {**_json(one.likelihood), "real": one.real, "other": one.other} for mode, one in tested.items()
        },
        "fields": {mode: {field.alias: field.as_json() for field in one.fields} for mode, one in tested.items()},
        "metrics": {mode: {name: one.as_json() for name, one in change.items()} for mode, change in changes.items()},
    }


def untested(why: str) -> dict[str, Any]:
    """What stands for a certificate that cannot be had."""
    line = f"uses the image: not checked ({why})"
    empty: dict[str, Any] = {"tests": [], "log_likelihood": {}, "fields": {}, "metrics": {}}
    return {"conclusion": "not checked", "uses_image": None, "line": line, **empty}


def _condition(
    real: Predictions, other: Predictions, found: Mapping[Images, Mapping[int, Likelihood]], mode: Images, seed: int
) -> _Condition:
    """Both tests; a row that was shown its own image again says nothing."""
    swapped = [row for row, shown in enumerate(other.shown) if shown != row]
    rows = [row for row in swapped if row in found["real"] and row in found[mode]]
    own = np.asarray([found["real"][row].log_probability for row in rows])
    changed = np.asarray([found[mode][row].log_probability for row in rows])
    likelihood = group_test(own - changed, [real.groups[row] for row in rows], seed=seed)
    if len(swapped) < len(real):
        real, other = real.subset(swapped), other.subset(swapped)
    names = real.task.names
    tests = [field_test(real, other, name, seed=seed) for name in names]
    corrected = holm([test.p_value for test in tests])
    fields = [
        _Field(alias(real.task, name), *_figures(real, other, name), test, p)
        for name, test, p in zip(names, tests, corrected, strict=True)
    ]
    means = [float(one.mean()) if rows else None for one in (own, changed)]
    return _Condition(likelihood, means[0], means[1], fields)


def _figures(real: Predictions, other: Predictions, name: str) -> tuple[str, float, float]:
    metric = field_deciding(real.task, name)
    own, changed = (metric(one.truth(name), one.predicted(name), one.typical(name)) or 0.0 for one in (real, other))
    return f"{alias(real.task, name)}_{metric.name}", own, changed


def _json(test: GroupTest) -> dict[str, Any]:
    ends = [test.interval.low, test.interval.high] if test.interval else None
    return {
        "rows": test.rows,
        "groups": test.groups,
        "drop": test.mean,
        "interval": ends,
        "p_value": test.p_value,
    }


def _conclude(shuffled: _Condition, control: _Condition | None) -> tuple[Conclusion, str]:
    if shuffled.groups < FEW:
        few = f"too few products to tell ({shuffled.groups}; at least {FEW} are needed)"
        return "too few", f"uses the image: {few}"
    shown = "shown another product's image"
    if not shuffled.worse:
        return "no", f"uses the image: no ({shown}, {_no_change(shuffled)})"
    worse = ", ".join(change_text(one.metric, one.real, one.other) for one in shuffled.fields if one.worse)
    if control is None or control.groups < FEW:
        count = control.groups if control is not None else 0
        return "too few", (
            f"uses the image: too few products to tell it from the image's shape ({shown}, answers become worse: "
            f"{worse}; but only {count} products share an image grid with another, at least {FEW} are needed)"
        )
    if not control.worse:
        return "shape only", (
            f"uses the image's shape only ({shown}, answers become worse: {worse}; but shown another product's image "
            f"of the same grid, {_no_change(control)})"
        )
    return "yes", f"uses the image: yes ({shown}, answers become worse: {worse})"


def _no_change(condition: _Condition) -> str:
    if condition.likelihood.above_zero(P_LIMIT):
        return "the true answer becomes less probable, but no field's answers become worse"
    if any(field.worse for field in condition.fields):
        return "answers become worse, but the true answer does not become less probable"
    return "no field's answers become worse"


def _test_line(mode: Images, condition: _Condition) -> str:
    """The tests of one condition in one sentence, for those who want to know."""
    test = condition.likelihood
    if test.mean is None:
        return f"{mode}: no row could be compared"
    fields = "; ".join(
        f"{change_text(one.metric, one.real, one.other)}, p = {one.p_corrected:.1g}" for one in condition.fields
    )
    return (
        f"{mode}: the true answer's log-likelihood changes by {-test.mean:+.2f} nats on average over {test.groups} "
        f"products ({test.rows} rows), Wilcoxon signed-rank over products, one-sided, p = {test.p_value:.1g}; "
        f"{fields} (Holm)"
    )
