"""The benchmark of foreign images: other photos for each seed; products that all seeds are asked about count once."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phisight.core.task import Task

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_each_seed_is_shown_other_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import foreign

    monkeypatch.setattr(foreign, "FOREIGN_IMAGES", 3)
    for number in range(7):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    found = [[row.hashes[0] for row in foreign.shown_of(tmp_path, Task().abstaining(), seed)] for seed in (0, 1, 2, 0)]
    assert found[0] == found[3]
    assert [len(one) for one in found] == [3] * 4
    assert len({*found[0], *found[1]}) == 6
    assert len({*found[0], *found[1], *found[2]}) == 7


def shares(count: int) -> dict[str, Any]:
    return {"count": count, "of": 10}


def line(seed: int, split: str | None) -> dict[str, Any]:
    refused = [row < 4 for row in range(20)]
    asked = {"invented": shares(1), "words": shares(2), "over": shares(3), "by_kind": {"map": shares(1)}}
    return {
        "seed": seed,
        "training": "abstain",
        "split": split,
        "groups": [str(row) for row in range(20)],
        "refused_rows": refused,
        "over_rows": refused,
        "words": {"refused_rows": refused},
        "foreign": asked,
    }


def test_rows_that_all_seeds_answer_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    import foreign

    widths = {}
    for split in (None, "test"):
        foreign.table([line(seed, split) for seed in range(4)])
        cells = capsys.readouterr().out.splitlines()[2].split("|")
        assert cells[3].strip().startswith("10.0%")
        found = re.search(r"20\.0% \(([\d.]+)% to ([\d.]+)%\) of 80", cells[6])
        assert found is not None
        widths[split] = float(found[2]) - float(found[1])
    assert widths["test"] > 1.5 * widths[None]
