"""What is trained on and what is not, and where two answers differ, token by token: for ``phisight data show``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import FILE_NAME
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import CHOSEN, PROMPT, REJECTED, read_pairs
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


@dataclass(frozen=True)
class Part:
    """Neighbouring tokens of an answer that the other one has, too, or has not."""

    text: str
    differs: bool


@dataclass(frozen=True)
class ShownPair:
    """A pair of answers, each in parts."""

    image: str
    prompt: str
    chosen: list[Part]
    rejected: list[Part]


def compared_pairs(data: Path, pairs: Path, *, model: str = TINY, rows: int = 3) -> tuple[list[ShownPair], list[str]]:
    """The first usable pairs of a file about a data set, and a sentence for each pair that cannot be used.

    ``model`` names the model whose tokens are compared.
    """
    folder = DatasetFolder.open(data)
    found, left_out = read_pairs(pairs, folder)
    tokenizer = _processor(model, folder.task, folder.rows("train")).tokenizer
    shown = []
    for row in found[:rows]:
        chosen, rejected = compared(row[CHOSEN], row[REJECTED], tokenizer)
        shown.append(ShownPair(str(row[FILE_NAME]), row[PROMPT], chosen, rejected))
    return shown, left_out


def compared(left: str, right: str, tokenizer: Any) -> tuple[list[Part], list[Part]]:
    """Both texts in parts, by their tokens; the parts of a text add up to it."""
    pieces = _pieces(left, tokenizer), _pieces(right, tokenizer)
    parts: tuple[list[Part], list[Part]] = ([], [])
    for tag, *bounds in SequenceMatcher(a=pieces[0], b=pieces[1], autojunk=False).get_opcodes():
        for side, (first, last) in enumerate((bounds[:2], bounds[2:])):
            if first < last:
                parts[side].append(Part("".join(pieces[side][first:last]), tag != "equal"))
    return parts


def _pieces(text: str, tokenizer: Any) -> list[str]:
    """The text of each token; tokens that are bytes of one character are one piece."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    begins = sorted({start for start, _ in offsets[1:]} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(begins)]


def _processor(model: str, task: Task, rows: list[dict[str, Any]]) -> Any:
    if model == TINY:
        return tiny_processor([task.prompt, *(task.render(row) for row in rows)])
    subject = subject_of(model)
    require_reachable(subject.weights)
    with loading(subject.processor):
        return read_processor(subject.processor, **subject.processor_hub)
