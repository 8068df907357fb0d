"""``phisight data show --pairs``: both answers side by side, the tokens marked in which they differ."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.dataset_folder import FILE_NAME
from phisight.data.dataset.folder import DatasetFolder
from phisight.model.tiny import tiny_processor
from phisight.workflows.show_tokens import Part, compared

TEXTS = [
    "",
    "a",
    "A red scarf",
    "A blue scarf",
    "scarf",
    "A red scarf, 20",
    "Ä\u0308rmel 円 🧣",
    "🧣🧣",
    "a  b\n\tc",
    "[red]",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_processor(["A red scarf, 20", "A blue shoe"]).tokenizer


def text_of(parts: list[Part], *, differing: bool | None = None) -> str:
    return "".join(part.text for part in parts if differing is None or part.differs == differing)


@pytest.mark.parametrize("left", TEXTS)
def test_the_parts_add_up_and_what_is_not_marked_is_the_same(left: str, tokenizer: Any) -> None:
    for right in TEXTS:
        one, other = compared(left, right, tokenizer)
        assert (text_of(one), text_of(other)) == (left, right)
        assert text_of(one, differing=False) == text_of(other, differing=False)
        assert any(part.differs for part in one + other) == (left != right)


def test_only_the_differing_word_is_marked(tokenizer: Any) -> None:
    one, other = compared("A red scarf, 20", "A blue scarf, 20", tokenizer)
    assert "red" in text_of(one, differing=True)
    assert "blue" in text_of(other, differing=True)
    assert "scarf, 20" in text_of(one, differing=False)


def shown(data: Path, pairs: Path, *more: str) -> str:
    result = CliRunner().invoke(app, ["data", "show", str(data), "--pairs", str(pairs), *more], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_pairs_of_a_file_and_what_is_left_out(products: Path, tmp_path: Path) -> None:
    image = DatasetFolder.open(products).rows("train")[0][FILE_NAME]
    pair = {"images": [image], "prompt": "What is [bold]shown[/]?", "chosen": "A red scarf", "rejected": "A blue scarf"}
    hostile = {**pair, "chosen": "A \x1b]0;owned\x07\x1b[31mscarf\r", "rejected": "A \x9b2Jscarf [red]"}
    lines = [json.dumps(pair), "{", json.dumps(hostile), json.dumps({**pair, "chosen": "\x1b[2J <|end|>"})]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = shown(products, tmp_path)
    assert "What is [bold]shown[/]?" in text
    assert image in text
    assert re.search(r"\[\+.*red.*\+\]", text)
    assert re.search(r"\[-.*blue.*-\]", text)
    assert "left out: line 2: " in text
    assert "left out: line 4: " in text
    assert "[red]" in text
    assert not [char for char in text if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160]
    assert "1 more pairs" in shown(products, tmp_path, "--rows", "1")
