"""The tasks of docs/tasks.md: built, trained for two steps, evaluated, reported, and asked for typed answers."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.recipe import changed
from phisight.data.dataset.folder import DatasetFolder
from phisight.report import write_report
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.extract import load_extractor, predict_into
from phisight.workflows.train import train
from tests.helpers.images import encoded, smooth_image
from tests.helpers.small_run import save_small_model, small_recipe

PAGE = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
BLOCKS = {(match[1], match[2]): match[3] for match in re.finditer(r"^```(\w+) (\w+)\n(.*?)^```$", PAGE, re.M | re.S)}
TASKS = sorted({name for language, name in BLOCKS if language == "yaml"})
COPIES = 8
FIGURES = {
    "shop": {"title_token_f1", "category_accuracy", "price_mae_penalized", "stock_exact", "stock_relative_error"},
    "receipt": {"day_exact", "day_parts_right", "items_entry_f1", "tip_invented", "tip_missed", "pieces_exact"},
    "defect": {"damaged_accuracy", "damaged_balanced_accuracy", "defects_precision", "defects_missed"},
    "caption": {"caption_token_f1"},
}


def table(name: str, folder: Path) -> Path:
    """The table of the page, a few times over, with an image of its own for every row."""
    folder.mkdir()
    lines = list(csv.DictReader(BLOCKS["csv", name].splitlines()))
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        for copy in range(COPIES):
            for at, line in enumerate(lines):
                number = copy * len(lines) + at
                (folder / f"{number}.jpg").write_bytes(encoded(smooth_image(number)))
                key = next(iter(line))
                writer.writerow({**line, key: f"{line[key]}-{copy}", "photo": f"{number}.jpg"})
    return path


def test_the_page_has_the_four() -> None:
    assert set(TASKS) == set(FIGURES) == {name for language, name in BLOCKS if language == "csv"}


@pytest.mark.parametrize("name", TASKS)
def test_a_documented_task_goes_all_the_way(name: str, tmp_path: Path) -> None:
    data, base, run = tmp_path / "data", tmp_path / "base", tmp_path / "run"
    source = table(name, tmp_path / "source")
    (tmp_path / "task.yaml").write_text(BLOCKS["yaml", name], encoding="utf-8")
    words = [
        "data",
        "build",
        str(source),
        "--out",
        str(data),
        "--task",
        str(tmp_path / "task.yaml"),
        "--processes",
        "1",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    opened = DatasetFolder.open(data)
    assert len(opened) == COPIES * 4, "no row is lost"
    save_small_model(data, base)
    recipe = small_recipe(data, base, run, steps=2, evaluate_every=2, save_every=2, log_every=1)
    # a model after two steps spells everything letter by letter
    settings = changed(recipe.evaluate, constrained=True, max_new_tokens=250, batch_size=8, split="validation")
    train(recipe.model_copy(update={"evaluate": settings}))
    scores = evaluate_run(run)
    assert scores["parse_rate"] == 1.0, scores["reasons"]
    assert set(scores) >= FIGURES[name]
    assert {field for one in scores["baselines"].values() for field in one["model_against"]} >= set(scores["aliases"])
    assert set(scores["grounding"]["fields"]["shuffled"]) == set(scores["aliases"].values())
    assert "</html>" in write_report([run]).read_text(encoding="utf-8")
    check_typed_answers(run, opened, tmp_path)


def check_typed_answers(run: Path, data: DatasetFolder, out: Path) -> None:
    """Answers in Python, JSON and tables have the types of their fields."""
    model = load_extractor(run)
    images = [str(data.image_path(row)) for row in data.rows()[:3]]
    rows: dict[str, list[dict[str, Any]]] = {}
    for suffix in ("jsonl", "csv", "parquet"):
        predict_into(model, images, out / f"answers.{suffix}")
    rows["jsonl"] = [json.loads(line) for line in (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    rows["csv"] = list(csv.DictReader((out / "answers.csv").read_text(encoding="utf-8").splitlines()))
    rows["parquet"] = pq.read_table(out / "answers.parquet").to_pylist()
    for at, image in enumerate(images):
        answer = model.extract(image)
        assert answer.ok
        assert set(model.schema["properties"]) == set(answer)
        assert {name: rows["jsonl"][at][name] for name in answer} == answer.json()
        assert {name: rows["parquet"][at][name] for name in answer} == answer
        for name, field in data.task.fields.items():
            cell = rows["csv"][at][name]
            given = field.typed(cell) if cell else None
            assert given == field.typed(answer[name]) or (given is None and answer[name] is None)
