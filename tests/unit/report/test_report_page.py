"""The page itself: self-contained, small, the same each time; foreign text is text; PDF."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from phisight.core.errors import RunError
from phisight.evaluate import write_predictions
from phisight.report import write_pdf, write_report
from phisight.report.collect import collect
from tests.helpers import run_folder
from tests.helpers.run_folder import HOSTILE


def test_the_page_is_self_contained_and_says_what_it_should(run: Path) -> None:
    page = write_report([run]).read_text()
    assert (run / "report.html").is_file()
    assert not re.search(r"""<[^>]+(?:src|href)="(?!data:)|url\(|@import|https?://""", page)
    for text in ("Uses the image: yes", "better than constant, category median", "Vintage Check Thing No 0", "0.0001"):
        assert text in page
    assert "default-src &#39;none&#39;" in page
    assert "<title>run: tiny Phi-3-Vision on shop, 2026-11-26 – phisight report</title>" in page
    assert "30 rows, 30 products of the test split" in page


def test_hostile_text_is_escaped_everywhere(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    scores["left_out"] = {HOSTILE: 1}
    scores["by_category"][0]["category"] = scores["confusion"]["category"]["labels"][0] = HOSTILE
    scores["reasons"] = {HOSTILE: 3}
    scores["verdict"]["lines"].append(HOSTILE)
    (copy / "scores.json").write_text(json.dumps(scores))
    (copy / "config.yaml").write_text(json.dumps({HOSTILE: HOSTILE}))
    with (copy / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 100, "time": 0, HOSTILE: 1.0}) + "\n")
    page = write_report([copy]).read_text()
    assert "window.hacked" in page
    assert "<script>window.hacked" not in page
    assert "<img src=x" not in page


@pytest.mark.slow
def test_five_hundred_images_stay_below_five_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def photo(number: int, side: int = 160) -> Image.Image:
        """As hard to compress as a photograph: a quarter of each pixel is noise."""
        return Image.blend(drawing(number, side), Image.effect_noise((side, side), 60).convert("RGB"), 0.25)

    drawing = run_folder.image
    monkeypatch.setattr(run_folder, "image", photo)
    run = tmp_path / "run"
    write_predictions(run, [run_folder.predictions(tmp_path, 520, "real")])
    path = write_report([run])
    assert len(collect(run).shown) == 500
    assert 1e6 < path.stat().st_size < 5e6


def test_the_same_folder_gives_the_same_page(run: Path) -> None:
    assert write_report([run]).read_bytes() == write_report([run]).read_bytes()


@pytest.mark.process
def test_no_torch(run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from phisight.report import write_report;"
        f"write_report([Path({str(run)!r})]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_pdf_without_a_browser_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="a PDF needs Chromium or Chrome"):
        write_pdf(tmp_path / "report.html")
