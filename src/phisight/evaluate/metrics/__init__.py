"""The metrics of each kind of field.

A metric's name in scores.json is ``<alias>_<metric>``: ``category_accuracy``, ``title_exact``, ``price_mae``. The alias
is the first of the words title, category and price that the field's name holds, where no other field's name holds the
same word (full_price -> price, category3_code -> category), else the field's own name.

An unanswered row (its text could not be read, or its image could not be used) is wrong for text and category and
outside every percentage band. The other plain metrics of numbers are over the answered rows, ``<alias>_answered`` says
which share that is; ``..._penalized`` counts an unanswered number as 0 or as the median of the training rows, whichever
is further from the truth, so that silence never pays. Only metrics that are ``complete``, with a value for every
row, may choose a checkpoint or decide a comparison.

Integers, dates, booleans and lists bring theirs with their kind (``phisight.core.kinds``). An optional field is scored
over the rows that have a value; ``..._invented`` and ``..._missed`` say how often an answer has a value where there is
none, and none where there is one.

Percentage errors are not defined where the truth is 0; ``MetricRows.rows`` says which rows are behind a figure.
Shares and percentage errors are fractions: 0.1 is 10 %; SMAPE runs from 0 to 2.
"""

from phisight.evaluate.metrics.metric import Column, Metric, MetricRows, alias
from phisight.evaluate.metrics.metric_list import (
    DECIDING,
    METRICS,
    deciding,
    field_deciding,
    field_metrics,
    is_right,
    metrics_of,
    row_error,
)
from phisight.evaluate.metrics.numbers import TOLERANCE, numbers
from phisight.evaluate.statistics.group_test import MEAN

__all__ = [
    "DECIDING",
    "MEAN",
    "METRICS",
    "TOLERANCE",
    "Column",
    "Metric",
    "MetricRows",
    "alias",
    "deciding",
    "field_deciding",
    "field_metrics",
    "is_right",
    "metrics_of",
    "numbers",
    "row_error",
]
