"""How alike and how private a sample is, beside the real table it was made from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import MissingExtraError, SampleError, SourceError, some
from phisight.sample.like.column_kinds import Column, as_number, classify, plain_column
from phisight.sample.like.real_table import RealTable, read_table
from phisight.sample.like.rules import Rules, find_rules
from phisight.sample.like.title_model import normal

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
RARE = 5
"""A category path that fewer real rows hold counts as rare."""


@dataclass(frozen=True)
class Line:
    """One figure of the report."""

    name: str
    figure: str
    meaning: str


@dataclass(frozen=True)
class FidelityReport:
    """Every figure of the check; shares are 0 to 1, None where the tables cannot say."""

    quality: float
    column_shapes: float
    pair_trends: float
    rules: dict[str, float]
    """Rule, in words -> share of sample rows that keep it."""
    valid_paths: float | None
    verbatim: dict[str, int]
    """Column -> sample cells that stand in the real table as they are."""
    verbatim_images: int
    nearer_to_training: float | None
    smallest_path: int | None
    """Real rows behind the rarest category path that the sample uses (its k)."""
    rare_rows: int | None

    @property
    def copied(self) -> int:
        """Real titles, codes, addresses and images found in the sample."""
        return sum(self.verbatim.values()) + self.verbatim_images

    def lines(self) -> list[Line]:
        """The report as a table."""
        broken = [rule for rule, share in self.rules.items() if share < 1]
        rules = f"{np.mean(list(self.rules.values())):.1%}" if self.rules else "no rules"
        near = "not measured" if self.nearer_to_training is None else f"{self.nearer_to_training:.3f}"
        paths = "no hierarchy" if self.valid_paths is None else f"{self.valid_paths:.1%}"
        smallest = "no categories" if self.smallest_path is None else f"k = {self.smallest_path}"
        return [
            Line(
                "quality score", f"{self.quality:.3f}", "mean of the next two (sdmetrics); 1 is the real table itself"
            ),
            Line("column shapes", f"{self.column_shapes:.3f}", "each column's distribution alone"),
            Line("pair trends", f"{self.pair_trends:.3f}", "how columns move together"),
            Line("rules kept", rules, f"broken: {some(broken)}" if broken else some(self.rules, 6) or "none found"),
            Line("valid category paths", paths, "combinations of the hierarchy that really occur"),
            *(
                Line(f"verbatim: {column}", f"{count:,}", "sample cells that are a real cell; 0 is wanted")
                for column, count in self.verbatim.items()
            ),
            Line("verbatim: images", f"{self.verbatim_images:,}", "sample images with the hash of a real one"),
            Line(
                "nearer to training rows",
                near,
                "share of sample rows nearer to rows learned from than to unseen ones; at most 0.5 is wanted"
                if self.nearer_to_training is not None
                else "needs --holdout: real rows the sample was not learned from",
            ),
            Line(
                "rarest category path",
                smallest,
                f"{self.rare_rows or 0:,} sample rows in paths of fewer than {RARE} real rows",
            ),
        ]


def check(real: Path | RealTable, sample: Path, *, holdout: Path | RealTable | None = None) -> FidelityReport:
    """Compare a sample with the real table; MissingExtraError without sdmetrics.

    A data set folder as ``real`` brings both parts: its split train was learned from, its split test was not.
    """
    whole = read_table(real)
    training = whole.part("train")
    unseen = read_table(holdout) if holdout is not None else (whole.part("test") if whole.splits else None)
    return compare(training, read_table(sample), unseen)


def compare(real: RealTable, sample: RealTable, unseen: RealTable | None = None) -> FidelityReport:
    """``check`` on tables in memory."""
    lacking = [name for name in real.columns if name not in sample.columns]
    if lacking:
        raise SampleError(f"the sample lacks {len(lacking)} of {len(real.columns)} real columns: {some(lacking)}")
    columns = [classify(name, values) for name, values in real.columns.items()]
    rules = find_rules(columns)
    shapes, trends = quality(columns, sample)
    paths = _path_columns(columns, rules)
    real_paths = Counter(zip(*(map(str, real.columns[name]) for name in paths), strict=True))
    sample_paths = list(zip(*(map(str, sample.columns[name]) for name in paths), strict=True))
    k = [real_paths[path] for path in sample_paths if real_paths[path]]
    return FidelityReport(
        quality=(shapes + trends) / 2,
        column_shapes=shapes,
        pair_trends=trends,
        rules=_rules_kept(rules, sample),
        valid_paths=float(np.mean([path in real_paths for path in sample_paths])) if paths else None,
        verbatim={c.name: _verbatim(c, sample) for c in columns if c.kind in ("text", "key", "url")},
        verbatim_images=len(real.hashes & sample.hashes),
        nearer_to_training=_nearer(columns, real, sample, unseen) if unseen and unseen.rows else None,
        smallest_path=min(k, default=None) if paths else None,
        rare_rows=sum(count < RARE for count in k) if paths else None,
    )


def quality(columns: list[Column], sample: RealTable) -> tuple[float, float]:
    """(column shapes, column pair trends) of sdmetrics on the columns of categories, numbers and dates."""
    try:
        from sdmetrics.reports import QualityReport
    except ImportError:
        raise MissingExtraError("phisight sample check", "check") from None
    used = [column for column in columns if column.kind in ("category", "number", "date")]
    if not used:
        raise SampleError(f"none of the {len(columns)} columns is a category, a number or a date: nothing to compare")
    types = {c.name: {"sdtype": "categorical" if c.kind == "category" else "numerical"} for c in used}
    report = QualityReport()
    real, made = {"table": _frame(used, None)}, {"table": _frame(used, sample)}
    report.generate(real, made, {"tables": {"table": {"columns": types}}, "relationships": []}, verbose=False)
    shares = dict(report.get_properties().itertuples(index=False, name=None))
    shapes = float(shares["Column Shapes"])
    trends = float(shares["Column Pair Trends"]) if len(used) > 1 else shapes
    return shapes, trends


def _frame(columns: list[Column], sample: RealTable | None) -> pd.DataFrame:
    import pandas as pd

    data: dict[str, Any] = {}
    for column in columns:
        mine = column if sample is None else _as(column, sample.columns[column.name])
        if column.kind == "category":
            data[column.name] = [None if value is None else str(value) for value in mine.values]
        else:
            data[column.name] = mine.numbers
    return pd.DataFrame(data)


def _as(column: Column, values: list[Any]) -> Column:
    """Sample values read as the kind of the real column."""
    if column.kind == "number":
        return Column(column.name, "number", values, np.array([as_number(v) for v in values], dtype=np.float64))
    if column.kind == "date":
        other = classify(column.name, values)
        return other if other.numeric else plain_column(column.name, "date", values)
    return plain_column(column.name, column.kind, values)


def _path_columns(columns: list[Column], rules: Rules) -> list[str]:
    linked = {*rules.parents, *rules.parents.values()}
    flags = {flag.column for flag in rules.flags}
    chosen = [column.name for column in columns if column.name in linked and column.name not in flags]
    if chosen:
        return chosen
    single = [c for c in columns if c.kind == "category" and c.name not in flags]
    return [max(single, key=lambda column: len(set(map(str, column.values)))).name] if single else []


def _rules_kept(rules: Rules, sample: RealTable) -> dict[str, float]:
    numbers = {
        name: np.array([as_number(value) for value in sample.columns[name]], dtype=np.float64)
        for name in {*(r.source for r in rules.rates), *(r.target for r in rules.rates), *(o.low for o in rules.orders),
                     *(o.high for o in rules.orders)}
    }  # fmt: skip
    kept: dict[str, float] = {}
    for rate in rules.rates:
        a, b = numbers[rate.source], numbers[rate.target]
        near = np.abs(b - a * rate.rate) <= 0.51 * 10.0**-rate.decimals + 1e-6 * np.abs(b)
        kept[f"{rate.target} = {rate.source} x {rate.rate:g}"] = _share(near, a, b)
    for order in rules.orders:
        a, b = numbers[order.low], numbers[order.high]
        kept[f"{order.low} <= {order.high}"] = _share(a <= b, a, b)
    for flag in rules.flags:
        a, b = numbers[flag.low], numbers[flag.high]
        cells = sample.columns[flag.column]
        flagged = np.array(
            [str(v) == str(flag.below if x < y else flag.level) for v, x, y in zip(cells, a, b, strict=True)]
        )
        known = np.array([value is not None for value in cells])
        kept[f"{flag.column} tells {flag.low} < {flag.high}"] = _share(flagged | ~known, a, b)
    for fine, coarse in rules.parents.items():
        seen: dict[str, set[str]] = {}
        for a, b in zip(sample.columns[fine], sample.columns[coarse], strict=True):
            if a is not None and b is not None:
                seen.setdefault(str(a), set()).add(str(b))
        kept[f"{fine} fixes {coarse}"] = float(np.mean([len(values) == 1 for values in seen.values()])) if seen else 1.0
    return kept


def _share(holds: NDArray[np.bool_], a: Floats, b: Floats) -> float:
    filled = ~np.isnan(a) & ~np.isnan(b)
    return float(np.mean(holds[filled])) if filled.any() else 1.0


def _verbatim(column: Column, sample: RealTable) -> int:
    compared = normal if column.kind == "text" else str
    real = {compared(str(value)) for value in column.values if value is not None}
    return sum(compared(str(value)) in real for value in sample.columns[column.name] if value is not None)


def _nearer(columns: list[Column], real: RealTable, sample: RealTable, unseen: RealTable) -> float:
    """Share of sample rows nearer to training rows than to unseen rows (Gower distance), on equally many of both.

    Rows equally near to both count for neither, as in the metric of sdmetrics.
    """
    lacking = [column.name for column in columns if column.name not in unseen.columns]
    if lacking:
        raise SourceError(f"the held-out rows lack {len(lacking)} real columns: {some(lacking)}")
    used = [column for column in columns if column.kind in ("category", "number", "date")]
    count = min(real.rows, unseen.rows)
    pick = np.random.default_rng(0).permutation(real.rows)[:count]
    training, held = np.full(sample.rows, np.inf), np.full(sample.rows, np.inf)
    blocks = [_as(column, sample.columns[column.name]) for column in used]
    others = [_as(column, unseen.columns[column.name]) for column in used]
    spans = [float(np.nanmax(c.numbers) - np.nanmin(c.numbers)) or 1.0 if c.numeric else 1.0 for c in used]
    for start in range(0, sample.rows, 512):
        rows = np.arange(start, min(start + 512, sample.rows))
        training[rows] = _distance(blocks, rows, used, pick, spans).min(axis=1)
        held[rows] = _distance(blocks, rows, others, np.arange(count), spans).min(axis=1)
    return float(np.mean(training < held - 1e-12))


def _distance(
    sample: list[Column], rows: NDArray[Any], other: list[Column], picked: NDArray[Any], spans: list[float]
) -> Floats:
    total = np.zeros((len(rows), len(picked)))
    for mine, theirs, span in zip(sample, other, spans, strict=True):
        if theirs.numeric:
            gap = np.abs(mine.numbers[rows][:, None] - theirs.numbers[picked][None, :]) / span
            total += np.where(np.isnan(gap), 1.0, np.minimum(gap, 1.0))
        else:
            a = np.array([str(mine.values[row]) for row in rows])
            b = np.array([str(theirs.values[row]) for row in picked])
            total += a[:, None] != b[None, :]
    return total / len(sample)
