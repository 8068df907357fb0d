"""What is trained on and what is not, token by token: for ``phisight data show --tokens``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import FILE_NAME
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.export.model_folder import read_processor, require_reachable
from phisight.export.subject import TINY, subject_of
from phisight.model.loss import IGNORED
from phisight.model.tiny import tiny_processor
from phisight.train.examples.dataset import ExampleSet
from phisight.workflows.load import loading


@dataclass(frozen=True)
class TokenRun:
    """Neighbouring tokens of one kind."""

    text: str
    tokens: int
    trained: bool
    image: bool


def labeled_tokens(
    data: Path, *, model: str = TINY, split: str | None = None, rows: int = 3, num_crops: int | None = None
) -> Iterator[tuple[str, list[TokenRun]]]:
    """File name and token runs of the first rows; ``model`` names the model whose tokenizer and image grid are used."""
    folder = DatasetFolder.open(data)
    processor = _processor(model, folder.task, folder.rows("train"))
    chosen = list(islice(folder.rows(split), rows))

    examples = ExampleSet(chosen, folder.load_image, processor, folder.task, num_crops=num_crops)
    for index, row in enumerate(chosen):
        yield str(row[FILE_NAME]), runs_of(examples[index], processor)


def runs_of(example: Any, processor: Any) -> list[TokenRun]:
    """Runs of image placeholders, untrained text and trained text, in order."""
    pairs = zip(example["input_ids"].tolist(), (example["labels"] != IGNORED).tolist(), strict=True)
    runs = []
    for (image, trained), group in groupby(pairs, key=lambda pair: (pair[0] == processor.image_token_id, pair[1])):
        ids = [token for token, _ in group]
        text = f"[{len(ids)} image placeholders]" if image else processor.tokenizer.decode(ids)
        runs.append(TokenRun(text, len(ids), trained, image))
    return runs


def _processor(model: str, task: Task, rows: list[dict[str, Any]]) -> Any:
    if model == TINY:
        return tiny_processor([task.prompt, *(task.render(row) for row in rows)])
    subject = subject_of(model)
    require_reachable(subject.weights)
    with loading(subject.processor):
        return read_processor(subject.processor, **subject.processor_hub)
