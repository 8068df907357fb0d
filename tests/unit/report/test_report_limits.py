"""What the page shows of foreign images, refusals and the error by coverage."""

import json
from pathlib import Path

from phisight.evaluate.limits.foreign import grouped_share, share
from phisight.evaluate.limits.risk_coverage import risk_coverage
from phisight.report import write_report
from phisight.report.limits_view import limits

GROUPS = [str(row) for row in range(100)]
WRONG = [row % 5 == 0 for row in range(100)]
SCORES = {
    "foreign": {
        "invented": share([True, False, False, False]),
        "by_kind": {"<map>": share([True, False]), "screen": share([False, False])},
    },
    "refused": grouped_share([False] * 100, GROUPS),
    "unfamiliar": {"real": share([False] * 9 + [True]), "foreign": share([True])},
    "risk_coverage": risk_coverage(WRONG, [0.2 if one else 0.9 for one in WRONG], GROUPS),
}


def test_every_figure_has_its_interval() -> None:
    found = limits(SCORES)
    assert [row["share"] for row in found["rows"]] == [
        f"{one}\N{NO-BREAK SPACE}%" for one in ("25.0", "50.0", "0.0", "0.0", "100.0", "10.0")
    ]
    assert all(" – " in row["interval"] for row in found["rows"])
    assert found["chart"].count("<polyline") == 3
    assert "20.0" in found["line"]
    assert "chance" not in found["line"]
    blind = SCORES | {"risk_coverage": risk_coverage(WRONG, [0.5] * 100, GROUPS)}
    assert "chance" in limits(blind)["line"]
    assert limits({}) == {}


def test_the_page_holds_them(copy: Path) -> None:
    assert "Where it should not answer" not in write_report([copy]).read_text(encoding="utf-8")
    path = copy / "scores.json"
    scores = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(scores | SCORES), encoding="utf-8")
    page = write_report([copy]).read_text(encoding="utf-8")
    assert "Where it should not answer" in page
    assert "real images: refused" in page
    assert "&lt;map&gt;" in page
    assert "<map>" not in page
