"""Every column of a table whose fields are guessed is named: as a field, a key, an image, a split, or left out."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from phisight.core.errors import SettingsError
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.columns import task_of_fields
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.source_plan import prepare
from tests.helpers.images import write_images

Draw = random.Random
WORDS = ["red", "green", "blue", "wool", "silk", "cotton", "large", "small"]
CELLS: dict[str, Callable[[Draw, int], str]] = {
    "euros": lambda draw, at: f"{draw.randrange(1, 99)},{draw.randrange(10, 99)} EUR",
    "weight": lambda draw, at: f"{draw.randrange(1, 99)}.{draw.randrange(10, 99)}",
    "stock": lambda draw, at: str(draw.randrange(100, 999)),
    "day": lambda draw, at: f"{2000 + at}-{draw.randrange(1, 13):02}-17",
    "verdict": lambda draw, at: draw.choice(["yes", "no"]),
    "tags": lambda draw, at: json.dumps(draw.sample(WORDS, 2)),
    "colour": lambda draw, at: draw.choice(WORDS),
    "words": lambda draw, at: " ".join(draw.sample(WORDS, 4)) + f" {at}",
    "code": lambda draw, at: f"R-{at:05}x",
    "scan": lambda draw, at: f"scans/{at}.png",
    "link": lambda draw, at: f"https://example.com/{at}",
    "always": lambda draw, at: "DE",
    "nothing": lambda draw, at: "",
    "marks": lambda draw, at: draw.choice("xy"),
    "anything": lambda draw, at: draw.choice(["12", "yes", "wool", "2024-01-02", "?", ""]),
    "price": lambda draw, at: f"{draw.randrange(1, 99)}.50",
    "title": lambda draw, at: f"Thing {at}",
    "split": lambda draw, at: draw.choice(["train", "train", "test"]),
    "image_phash": lambda draw, at: f"{draw.randrange(16**8):08x}",
}
ODD, EMPTY = "auf Anfrage", ""


def written(path: Path, columns: dict[str, list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def random_columns(draw: Draw) -> dict[str, list[str]]:
    """Up to eight columns, some with a few cells that are odd or empty, beside one of images."""
    rows = draw.choice([3, 4, 8, 30, 120])
    columns = {}
    for name in draw.sample(list(CELLS), draw.randrange(1, 9)):
        cells = [CELLS[name](draw, at) for at in range(rows)]
        for place in draw.sample(range(rows), int(rows * draw.choice([0, 0, 0.02, 0.1, 0.3, 0.6]))):
            cells[place] = draw.choice([ODD, EMPTY])
        columns[name] = cells
    return {"photo": [f"{at}.jpg" for at in range(rows)], **columns}


def is_named(column: str, lines: list[str]) -> bool:
    options = rf"--(field|key|image|split-column) {column}(:|$|[ ,])"
    left_out = rf"(no image of|not in the answer:).*\b{column}\b"
    return any(re.search(f"{options}|{left_out}", line) for line in lines)


def test_every_column_of_a_random_table_is_named(tmp_path: Path) -> None:
    draw, guessed = random.Random(7), 0
    for number in range(150):
        columns = random_columns(draw)
        path = written(tmp_path / f"{number}.csv", columns)
        try:
            plan = prepare(str(path), BuildOptions())
            lines = [*plan.columns.guesses, *plan.remarks()]
        except SettingsError:
            continue
        guessed += 1
        silent = [name for name in columns if not is_named(name, lines)]
        assert not silent, (number, silent, lines)
    assert guessed > 100


@pytest.mark.parametrize(
    ("name", "kind"), [("euros", "number"), ("weight", "number"), ("stock", "integer"), ("day", "date")]
)
@pytest.mark.parametrize(("rows", "odd"), [(4, 1), (10, 1), (100, 1), (100, 10), (100, 45)])
def test_few_odd_values_reject_their_rows_and_many_leave_the_column_out(
    name: str, kind: str, rows: int, odd: int, tmp_path: Path
) -> None:
    draw = random.Random(rows + odd)
    cells = [CELLS[name](draw, at) for at in range(rows - odd)] + [ODD] * odd
    columns = {"photo": [f"{at}.jpg" for at in range(rows)], "what": [f"big thing {at}" for at in range(rows)]}
    plan = prepare(str(written(tmp_path / "t.csv", {**columns, name: cells})), BuildOptions())
    lines = plan.remarks()
    if odd / rows < 0.05:
        assert f"--field {name}:{kind}" in plan.columns.guesses
    else:
        verb = "is" if odd == 1 else "are"
        reason = f"{odd} of {rows} values looked at {verb} no {kind}: {ODD!r}"
        assert any(line.startswith(f"not in the answer: {name} ({reason}); take it with --field") for line in lines)
        assert any(f"--field {name}:{kind} " in line for line in lines)


def test_the_option_of_the_line_takes_the_column_and_rejects_the_odd_rows(tmp_path: Path) -> None:
    names = write_images(tmp_path, 4)
    prices = ["1.299,00 EUR", "89,00 EUR", "12,50 EUR", ODD]
    titles = [f"Blauer Schal {at}" for at in range(4)]
    path = written(tmp_path / "odd.csv", {"Bezeichnung": titles, "Preis": prices, "Foto": names})
    line = next(line for line in build(str(path), tmp_path / "a").remarks if "not in the answer" in line)
    name, kind = re.findall(r"--field (\w+):(\w+)", line)[0]
    task = task_of_fields({"Bezeichnung": "text", name: kind})
    result = build(str(path), tmp_path / "b", BuildOptions(task=task))
    assert (result.kept, dict(result.rejected)) == (3, {"bad_value": 1})


def test_a_table_without_a_field_says_what_nearly_is_one(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", {"photo": [f"{at}.jpg" for at in range(4)], "Preis": ["1", "2", "3", ODD]})
    with pytest.raises(SettingsError, match=r"nearly: Preis \(1 of 4 values looked at is no integer: 'auf Anfrage'\)"):
        prepare(str(path), BuildOptions())
