"""The preference benchmark on a table of which nobody knows the noise of the prices, and on one without a price."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phisight.core.task import Task
from tests.helpers.shop import make_dataset, predictor, product

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def overpriced(red: int, green: int, blue: int) -> str:
    """Title and category as they are, half as much again for the price; of every fourth image nothing."""
    line = product(red)
    return "hm" if red % 4 == 3 else Task().render({**line, "full_price": line["full_price"] * 1.5})


def test_prices_without_known_noise_have_a_relative_error(tmp_path: Path) -> None:
    from preference_answers import figures_by_row
    from preference_figures import columns, figures_of, heading, shown

    folder = make_dataset(tmp_path / "data", [product(number) for number in range(8)])
    found = figures_by_row(predictor(overpriced), Task(), folder, "test")
    assert "noise_error" not in found
    assert found["price_error"] == pytest.approx([0.5, 0.5, 0.5, 1.0] * 2, rel=1e-3)
    assert found["title_wrong"] == found["category3_code_wrong"] == [False, False, False, True] * 2
    assert all(found["title_wrong_shuffled"])
    assert found["split"] == "test"
    names = columns([{"arm": "start", "seed": 0, **found}])
    assert names == [
        "title_wrong",
        "category3_code_wrong",
        "price_error",
        "gap",
        "title_wrong_shuffled",
        "category3_code_wrong_shuffled",
    ]
    figures = figures_of([found], names)["figures"]
    assert figures["price_error"] == pytest.approx(0.5, rel=1e-3)
    assert figures["title_wrong"] == 0.25
    assert shown("price_error", figures["price_error"], noise=False) == "50.0%"
    assert heading("price_error", noise=False) == "price error"


def line(arm: str, seed: int, errors: list[float], **more: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "groups": [str(row) for row in range(len(errors))],
        "price_error": errors,
        "gap": {"0": 2.0 + seed, "1": 4.0 + seed},
        **more,
    }


def test_known_noise_divides_the_price_error() -> None:
    from preference_figures import columns, figures_of

    found = [line("sft", seed, [0.1, 0.2, 0.3], noise_error=[0.1, 0.1, 0.4]) for seed in (0, 1)]
    figures = figures_of(found, columns(found))["figures"]
    assert figures == {"price_error": pytest.approx(2.0), "gap": pytest.approx(3.5)}


def test_products_that_all_seeds_were_asked_about_count_once() -> None:
    from preference_figures import against

    rng = np.random.default_rng(0)
    errors, changes = rng.uniform(0.2, 0.4, 40), rng.normal(0, 0.05, 40)
    widths = {}
    for split in (None, "test"):
        base = [line("sft", seed, errors.tolist(), split=split) for seed in range(4)]
        found = [line("dpo", seed, (errors + changes).tolist(), split=split) for seed in range(4)]
        change = against(found, base, ["price_error"])["price_error"]
        widths[split] = change["high"] - change["low"]
    assert widths["test"] > 1.5 * widths[None]  # four copies of a row would make it half as wide


def test_a_figure_that_is_zero_has_no_relative_change(capsys: pytest.CaptureFixture[str]) -> None:
    from preference_figures import tables

    lines = [
        {
            "arm": arm,
            "seed": 0,
            "split": "test",
            "groups": ["a", "b"],
            "category_wrong": wrong,
            "gap": {"0": 1.0, "1": gap},
        }
        for arm, wrong, gap in (("sft", [0, 0], 1.0), ("dpo", [0, 1], 3.0))
    ]
    report = tables(lines, "sft")
    assert report["dpo"]["against"]["gap"]["relative"] == pytest.approx(1.0)
    assert np.isnan(report["dpo"]["against"]["category_wrong"]["relative"])
    assert report["dpo"]["against"]["category_wrong"]["difference"] == 0.5
    assert "price" not in capsys.readouterr().out
