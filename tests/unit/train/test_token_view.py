"""The token view shows exactly what the labels say."""

from typing import Any

from phisight.train.examples.dataset import ExampleSet
from phisight.workflows.show_tokens import runs_of
from tests.helpers.training_examples import TASK


def test_runs_cover_the_example_in_order(examples: ExampleSet, processor: Any) -> None:
    example = examples[1]
    runs = runs_of(example, processor)
    assert sum(run.tokens for run in runs) == len(example["input_ids"])
    assert [run.image for run in runs] == [False, True, False, False]
    assert [run.trained for run in runs] == [False, False, False, True]
    assert runs[-1].text == TASK.render(examples.rows[1]) + "<|end|>"
    assert runs[1].text == f"[{runs[1].tokens} image placeholders]"
