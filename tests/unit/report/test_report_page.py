"""The report from run folders alone: whole, unfinished, damaged and hostile ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from phisight.core.errors import RunError
from phisight.evaluate import write_predictions
from phisight.report import advice, first_screen, report_json, view, write_pdf, write_report
from phisight.report.charts import MOST_POINTS, Axis, bars, curves, scatter, thinned
from phisight.report.collect import collect
from phisight.report.format import formatted, number, split_name
from tests.helpers import run_folder
from tests.helpers.run_folder import HOSTILE, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("page"), 30)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report.html")))


def test_the_page_is_self_contained_and_says_what_it_should(run: Path) -> None:
    page = write_report([run]).read_text()
    assert (run / "report.html").is_file()
    assert not re.search(r"""<[^>]+(?:src|href)="(?!data:)|url\(|@import|https?://""", page)
    for text in ("Uses the image: yes", "better than constant, category median", "Vintage Check Thing No 0", "0.0001"):
        assert text in page
    assert "default-src &#39;none&#39;" in page
    assert "<title>run: tiny Phi-3-Vision on shop, 2026-11-26 – phisight report</title>" in page
    assert "30 rows, 30 products of the test split" in page


def sections(page: str) -> list[str]:
    return re.findall(r"<section[^>]*>\s*(?:<details><summary>)?<h2>([^<{]+)", page)


def test_the_first_screen_is_for_whoever_decides(run: Path) -> None:
    page = write_report([run]).read_text()
    order = [name.strip() for name in sections(page)]
    assert order[:4] == ["Verdict", "Where it fails", "What to do next", "Images with truth and answer"]
    assert order[-3:] == ["How this was tested", "Every figure", "What was trained, and how"]
    verdict = page[page.index("<h2>Verdict</h2>") : page.index("<h2>Where it fails</h2>")]
    assert verdict.count('class="tile"') == 4
    assert verdict.count('class="shot"') == 12
    assert "Wilcoxon" not in verdict
    assert "nats" not in verdict
    assert "Wilcoxon" in page[page.index("How this was tested") :]


def test_best_typical_and_worst_are_ordered_by_error_and_none_twice(run: Path) -> None:
    collected = collect(run)
    parts = {part["title"]: part["rows"] for part in first_screen.examples(collected)}
    assert list(parts) == ["Best", "Typical", "Worst"]
    rows = [one.row for part in parts.values() for one in part]
    assert len(rows) == len(set(rows)) == 12
    assert max(one.error for one in parts["Best"]) <= min(one.error for one in parts["Typical"])
    assert max(one.error for one in parts["Typical"]) <= min(one.error for one in parts["Worst"])


def test_one_tolerance_for_right_everywhere(copy: Path) -> None:
    """Gallery and training examples judge a number alike, by the tolerance of scores.json."""
    task = collect(copy).task
    assert task is not None
    truth = {"title": "A", "category3_code": "HATS", "full_price": 100.0}
    rows = [
        {
            "key": f"{off}",
            "image": "none.jpg",
            "truth": task.render(truth),
            "answer": task.render({**truth, "full_price": off}),
        }
        for off in (100.0, 108.0, 115.0)
    ]
    (copy / "examples.jsonl").write_text(json.dumps({"step": 1, "time": 0, "rows": rows}) + "\n")
    for near, expected in ((0.10, [True, True, False]), (0.2, [True, True, True]), (0.05, [True, False, False])):
        scores = json.loads((copy / "scores.json").read_text())
        scores["tolerance"] = near
        (copy / "scores.json").write_text(json.dumps(scores))
        collected = collect(copy)
        assert [row["answers"][0]["right"] for row in view.examples(collected)] == expected
        for shown in collected.shown:
            for line in view.card(collected, shown)["lines"]:
                if line["field"] == "full_price" and shown.predicted:
                    gap = abs(shown.predicted["full_price"] / shown.truth["full_price"] - 1)
                    assert line["right"] == (gap <= near * (1 + 1e-9) or line["answer"] == line["truth"])


def test_curves_that_say_nothing_are_left_out_and_colors_are_fixed(copy: Path) -> None:
    lines = [
        {"step": step, "time": 0, "eval/loss": 3 / step, "train/loss": 2 / step, "eval/price_median_ape": 0.1 * step}
        | {"train/flat": 0.0, "train/data_wait": 1 / step}
        for step in (1, 2, 3)
    ]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = {curve["title"]: curve for curve in view.curve_figures([collect(copy)])}
    assert set(drawn) == {"loss", "price median error in %"}
    assert [(line["name"], line["color"]) for line in drawn["loss"]["lines"]] == [("train", 0), ("eval", 1)]
    assert ">30<" in str(drawn["price median error in %"]["svg"]), "percent axes are in percent"


def test_what_to_do_next_follows_from_the_figures(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    bands = scores["by_band"]["price"]
    for place, band in enumerate(bands):
        band["price_median_ape"] = 0.4 if place == len(bands) - 1 else 0.1
    scores["by_category"][0]["category_accuracy"] = 0.2
    scores["reasons"], scores["parse_rate"] = {"cut at 12 tokens": 9}, 0.7
    scores["grounding"] |= {"conclusion": "too few", "groups": 7, "uses_image": None}
    scores["numbers"] = {"strategy": "head", "as_written": {"price_mae": 1e6}}
    (copy / "scores.json").write_text(json.dumps(scores))
    text = " ".join(advice.next_steps(collect(copy)))
    for part in ("max_new_tokens", "Evaluate more products: 7", f"Add rows of {scores['by_category'][0]['category']}"):
        assert part in text
    assert f"above {number(bands[-1]['low'])}" in text
    assert "number head" in text


def test_a_figure_without_a_read_answer_keeps_its_place(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    for name in ("price_median_ape", "price_mae"):
        scores[name] = scores["intervals"][name] = None
    (copy / "scores.json").write_text(json.dumps(scores))
    assert "none read" in [figure["value"] for figure in first_screen.figures(collect(copy))]


def test_an_evaluation_beside_the_run_s_own(run: Path, copy: Path) -> None:
    other = copy / "evaluations" / "validation-5-rows"
    other.mkdir(parents=True)
    for name in ("scores.json", "predictions.parquet"):
        shutil.copy(run / name, other / name)
    page = write_report([other]).read_text()
    assert (other / "report.html").is_file()
    assert not (copy / "report.html").exists()
    assert "run, validation-5-rows" in page
    assert "LoRA" in page, "what was trained stands in the run it belongs to"


def test_several_runs_have_a_page_of_their_own(run: Path, copy: Path) -> None:
    path = write_report([copy, run])
    assert path.name == "report-run.html"
    assert path.parent == copy.parent
    path.unlink()


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


def test_a_run_that_was_not_evaluated(copy: Path) -> None:
    for name in ("scores.json", "predictions.parquet"):
        (copy / name).unlink()
    page = write_report([copy]).read_text()
    assert "this run has not been evaluated; run `phisight evaluate" in page
    assert "Training" in page


def test_scores_without_certificate_and_baselines(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    for name in ("verdict", "grounding", "baselines", "teacher_forced"):
        del scores[name]
    (copy / "scores.json").write_text(json.dumps(scores))
    page = write_report([copy]).read_text()
    assert "was not tested" in page
    assert "Neither a grounding certificate nor baselines were computed" in page


def test_several_runs(run: Path, copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    scores["title_exact"] = 0.999
    (copy / "scores.json").write_text(json.dumps(scores))
    out = copy.parent / "both.html"
    page = write_report([run, copy], out).read_text()
    assert "The runs side by side" in page
    assert re.search(r'best">99\.9', page)
    assert not (copy / "report.html").exists()


def test_what_programs_get(run: Path) -> None:
    values = json.loads(json.dumps(report_json([run])))
    (one,) = values["runs"]
    assert one["scores"] == json.loads((run / "scores.json").read_text())
    assert one["verdict"]["uses_image"] is True
    assert one["curves"]["eval/loss"][0][0] == 20


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scores.json", "{", "is no JSON"),
        ("config.yaml", "a: [", "is no YAML"),
        ("metrics.jsonl", "x\n{}\n", "line 1 is no JSON"),
    ],
)
def test_a_damaged_file_is_named(copy: Path, name: str, text: str, message: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(RunError, match=message):
        write_report([copy])


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        write_report([tmp_path / "gone"])
    with pytest.raises(RunError, match="is no run folder"):
        write_report([tmp_path])
    with pytest.raises(RunError, match="no run folder named"):
        write_report([])


def test_images_outside_the_run_folder_are_not_taken_in(copy: Path) -> None:
    secret = copy.parent / "secret.jpg"
    Image.new("RGB", (8, 8)).save(secret)
    row = {"key": "A", "image": "../secret.jpg", "truth": "T", "answer": "A"}
    (copy / "examples.jsonl").write_text(json.dumps({"step": 1, "time": 0, "rows": [row]}) + "\n")
    assert collect(copy).examples[0].image is None


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


def test_only_the_worst_and_a_sample_are_kept(run: Path) -> None:
    found = collect(run, images=10)
    assert len(found.shown) <= 10
    assert found.answered == 30
    assert found.shown[0].error == max(shown.error for shown in collect(run).shown)


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


def test_axes() -> None:
    axis = Axis(0, 10, 100, 200)
    assert (axis.pixel(0), axis.pixel(5), axis.pixel(10)) == (100, 150, 200)
    assert axis.ticks() == [0, 2, 4, 6, 8, 10]
    logarithmic = Axis(1, 100, 0, 100, logarithmic=True)
    assert logarithmic.pixel(10) == pytest.approx(50)
    assert logarithmic.ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert Axis(5, 5, 0, 10).ticks() == [5]


def test_figures_of_nothing_and_of_one_point() -> None:
    assert curves({}, "step", "loss") == ""
    assert curves({"a": [(1, float("nan"))]}, "step", "loss") == ""
    assert "<circle" in curves({"a": [(1, 2.0)]}, "step", "loss")
    assert scatter([], "price") == ""
    assert scatter([(1.0, 1.0)], "price").count("<circle") == 1
    assert bars([("0 – 1", None, 0)], "error") == ""


def test_figures_escape_foreign_text() -> None:
    assert HOSTILE not in curves({"a": [(1, 2.0), (2, 3.0)]}, HOSTILE, HOSTILE) + scatter([(1.0, 2.0)], HOSTILE)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    points = [(float(step), float(step)) for step in range(100_000)]
    kept = thinned(points)
    assert len(kept) == MOST_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])


def test_words() -> None:
    assert split_name("price_mae", ["price"]) == ("price", "mae")
    assert split_name("old_price_mae", ["price", "old_price"]) == ("old_price", "mae")
    assert split_name("parse_rate", ["price"]) == ("", "parse_rate")
    assert [number(value) for value in (0, 0.0123, 1.234, 12.34, 1234.5, 2e7)] == [
        "0",
        "0.012",
        "1.23",
        "12.3",
        "1,234",
        "2.00e+07",
    ]
    assert formatted("mae", None) == "–"
    assert formatted("accuracy", 0.1234) == "12.3\u00a0%"
