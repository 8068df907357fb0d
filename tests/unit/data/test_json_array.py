"""JSON arrays are read record by record: whatever one of them holds, the others are rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SourceError
from phisight.data.sources import json_array
from phisight.data.sources.json_array import JsonArraySource
from phisight.data.sources.layouts.open import open_source

TEXTS = ("Hat", 'a "quoted" one', "back\\slash", "[x] {y}, z", "é ü", "пальто", "😀 smile", "new\nline", "")
BROKEN = {
    "{'title': 'python'}": "no JSON",
    '{"title": }': "no JSON",
    '{"title": "a" "b"}': "no JSON",
    '{"title": "a"]': "no JSON",
    "}": "no JSON",
    "NULL": "no JSON",
    '"words"': "a JSON str",
    "[1, [2], {}]": "a JSON list",
    "17": "a JSON int",
    '{"title": "' + "x" * 3000 + '"}': "more than 2000",
    '{"title": ["' + '{]", "' * 900 + '"]}': "more than 2000",
}


def value(draw: random.Random, depth: int = 0) -> Any:
    if depth < 3 and draw.random() < 0.4:
        inner = [value(draw, depth + 1) for _ in range(draw.randint(0, 3))]
        return inner if draw.random() < 0.5 else {f"k{at}": one for at, one in enumerate(inner)}
    return draw.choice([*TEXTS, 1, -2.5, 1e300, True, None])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("seed", range(10))
def test_what_json_reads_is_read(tmp_path: Path, seed: int, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any nesting, at any place of the window's end."""
    draw = random.Random(seed)
    records = [{"title": draw.choice(TEXTS), "more": value(draw)} for _ in range(60)]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(records, ensure_ascii=seed % 2 == 0, indent=seed % 3 or None), encoding=encoding)
    monkeypatch.setattr(json_array, "_CHUNK", draw.choice([17, 40, 300, 100_000]))
    assert list(JsonArraySource(path).values()) == records


@pytest.mark.parametrize("seed", range(20))
def test_a_broken_record_costs_itself_alone(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(json_array, "_CHUNK", draw.choice([17, 40, 300, 100_000]))
    parts: list[tuple[str, str | None]] = [(json.dumps({"title": f"{n}"}), None) for n in range(12)]
    for text in draw.sample(sorted(BROKEN), 3):
        parts.insert(draw.randrange(len(parts)), (text, BROKEN[text]))
    path = tmp_path / "t.json"
    path.write_text("[" + ",\n".join(text for text, _ in parts) + "]")
    found = list(JsonArraySource(path, 2000).objects())
    assert len(found) == len(parts)
    for one, (text, reason) in zip(found, parts, strict=True):
        assert one == json.loads(text) if reason is None else reason in str(one)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"title": "a"}, {"title": "b"', "no JSON"),
        ('[{"title": "a"}, ', "ends inside the array"),
        ('[{"title": "a"}] [{"title": "b"}]', "behind the end"),
    ],
)
def test_a_file_that_does_not_end_well_says_so(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "t.json").write_text(text)
    (batch,) = open_source(str(tmp_path / "t.json")).batches()
    assert batch.table["title"].to_pylist() == ["a"]
    assert reason in batch.malformed[0].reason


def test_bytes_that_are_no_utf8_cost_their_record(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(b'[{"title": "caf\xe9"}, {"title": "b"}]')
    (batch,) = open_source(str(tmp_path / "t.json")).batches()
    assert batch.table["title"].to_pylist() == ["b"]
    assert "no UTF-8" in batch.malformed[0].reason


@pytest.mark.parametrize("text", ["[]", "[1, 2]", "[[]]"])
def test_an_array_without_records_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(SourceError, match="no JSON object"):
        open_source(str(tmp_path / "t.json"))
