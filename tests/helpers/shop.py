"""A small shop: products whose image's color says what they are, and a model that reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from phisight.core.dataset_folder import DatasetCard
from phisight.core.task import Task
from phisight.evaluate import EvalRow
from phisight.generate import Predictor
from tests.helpers.fake_model import FakeModel, FakeProcessor

CATEGORIES = ("HATS", "BAGS", "SCARVES", "SHOES")


def product(number: int) -> dict[str, Any]:
    return {
        "code": f"P-{number}",
        "title": f"Thing {number}",
        "category3_code": CATEGORIES[number % 4],
        "full_price": 10.0 + number,
    }


def answer_of(number: int) -> str:
    return Task().render(product(number))


def make_rows(folder: Path, count: int) -> list[EvalRow]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (8, 8), (number, 0, 99)).save(path)
        line = product(number)
        rows.append(EvalRow(line["code"], path, Task().values(line), Task().render(line)))
    return rows


def seeing(red: int, green: int, blue: int) -> str:
    """Reads the product off the image; a gray image shows nothing."""
    return "nothing to see" if (red, green, blue) == (127, 127, 127) else answer_of(red)


def blind(red: int, green: int, blue: int) -> str:
    return answer_of(3)


def predictor(answer: Callable[[int, int, int], str] = seeing, **options: Any) -> Predictor:
    return Predictor(FakeModel(answer), FakeProcessor(), **options)


def make_dataset(folder: Path, lines: list[dict[str, Any]]) -> Path:
    (folder / "images").mkdir(parents=True)
    for place, line in enumerate(lines):
        line.setdefault("file_name", f"images/{place}.png")
        line.setdefault("split", "test")
        Image.new("RGB", (8, 8), (place, 0, 99)).save(folder / line["file_name"])
    pq.write_table(pa.Table.from_pylist(lines), folder / "metadata.parquet")
    DatasetCard(task=Task(), key="code", rows=len(lines), splits={"test": len(lines)}).write(folder)
    return folder
