"""What whoever decides sees first: what was trained, the verdict, four figures, twelve images; one tolerance."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phisight.report import advice, figure_tables, first_screen, gallery, write_report
from phisight.report.collect import collect
from phisight.report.format import number


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


def test_the_twelve_images_show_twelve_products_where_there_are_so_many(run: Path) -> None:
    found = collect(run)
    for products, expected in ((15, 12), (6, 6)):
        found.shown = [replace(one, group=f"G{one.row % products}") for one in found.shown]
        rows = [one for part in first_screen.examples(found) for one in part["rows"]]
        assert len(rows) == len({one.row for one in rows}) == 12
        assert len({one.group for one in rows}) == expected


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
        assert [row["answers"][0]["right"] for row in gallery.examples(collected)] == expected
        for shown in collected.shown:
            for line in gallery.card(collected, shown)["lines"]:
                if line["field"] == "full_price" and shown.predicted:
                    gap = abs(shown.predicted["full_price"] / shown.truth["full_price"] - 1)
                    assert line["right"] == (gap <= near * (1 + 1e-9) or line["answer"] == line["truth"])


def test_a_figure_without_a_read_answer_keeps_its_place(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    for name in ("price_median_ape", "price_mae"):
        scores[name] = scores["intervals"][name] = None
    (copy / "scores.json").write_text(json.dumps(scores))
    assert "none read" in [figure["value"] for figure in first_screen.figures(collect(copy))]


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


def test_the_rows_behind_a_figure_stand_beside_it_where_they_are_not_all(copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    table = figure_tables.metric_table(collect(copy))["rows"]
    shown = {(row["field"], row["label"]): row["count"] for row in table}
    assert scores["counts"]["price_mae"] < scores["rows"] == scores["counts"]["price_mae_penalized"]
    assert shown["price", "mean error"] == scores["counts"]["price_mae"]
    assert shown["price", "mean error, unread penalized"] is None
    assert f"({scores['counts']['price_mae']} rows)" in write_report([copy]).read_text()


@pytest.mark.parametrize(
    ("grounding", "beats", "parts"),
    [
        (
            {"conclusion": "yes", "uses_image": True},
            {"title": True, "price": True},
            (
                "The model looks at the image. Shown another product's image, its answers become worse: ",
                "category right in",
                "of the rows instead of",
                "Title and price are answered better than by simple methods.",
            ),
        ),
        (
            {"conclusion": "no", "uses_image": False},
            {"title": True, "price": False},
            (
                "has not been shown to look at the image",
                "Title is answered better than by simple methods; a simple",
                "method answers price just as well.",
            ),
        ),
        ({"conclusion": "shape only", "uses_image": False}, {}, ("reads the image's shape and no more",)),
        ({"conclusion": "too few", "uses_image": None, "groups": 7}, {}, ("Too few products (7) to tell",)),
        (
            {"conclusion": "not checked", "uses_image": None, "line": "uses the image: not checked (one row)"},
            {"price": False, "title": False},
            ("was not tested: one row.", "Simple methods answer price and title just as well."),
        ),
    ],
)
def test_the_verdict_in_plain_words(grounding: Any, beats: Any, parts: tuple[str, ...], copy: Path) -> None:
    scores = json.loads((copy / "scores.json").read_text())
    scores["grounding"] = grounding
    scores["verdict"] |= {"uses_image": grounding["uses_image"], "beats_baselines": beats}
    (copy / "scores.json").write_text(json.dumps(scores))
    page = html.unescape(write_report([copy]).read_text())
    lead = page[page.index('class="lead"') :].split("</p>")[0]
    for part in parts:
        assert part in lead
    for word in ("Wilcoxon", "nats", "paired", "p =", "baseline"):
        assert word not in lead


def test_logged_answers_are_judged_field_by_field(copy: Path) -> None:
    task = collect(copy).task
    assert task is not None
    truth = {"title": "A", "category3_code": "HATS", "full_price": 100.0}
    given = task.render({**truth, "category3_code": "BAGS", "full_price": 107.0})
    row = {"key": "K", "image": "none.jpg", "truth": task.render(truth), "answer": given}
    (copy / "examples.jsonl").write_text(json.dumps({"step": 1, "time": 0, "rows": [row]}) + "\n")
    ((answer,),) = (example["answers"] for example in gallery.examples(collect(copy)))
    assert [(line["label"], line["right"]) for line in answer["lines"]] == [
        ("title", True),
        ("category", False),
        ("price", True),
    ]
