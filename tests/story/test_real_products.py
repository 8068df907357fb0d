"""The chain on real photographs, where they are at hand: build, train a few steps, evaluate, report."""

import json
from pathlib import Path

import pytest

from tests.helpers.command_line import ROOT, Command

PRODUCTS = ROOT.parent / "shared" / "data" / "products"


@pytest.mark.skipif(not PRODUCTS.is_dir(), reason="needs the real product photos in ../shared/data/products")
def test_real_products(tmp_path: Path, phisight: Command) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    phisight(
        "data", "build", PRODUCTS / "products.csv", "--out", data, "--key", "product_code", "--image", "image",
        "--group-regex", r"^([A-Z]+\d+)-",
        "--field", "title:text", "--field", "category:category", "--field", "price:number",
        "--answer", "Product: {title}, Category: {category}, Price: {price}",
    )  # fmt: skip
    shown = phisight("data", "show", data, "--tokens").stdout
    assert "Product:" in shown

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"out: {run}\ndata: {{path: {data}}}\nmodel: {{name: tiny, attention: eager}}\n"
        "train: {method: full, steps: 6, batch_size: 8, learning_rate: 0.001, log_every: 2}\n"
        "evaluate: {rows: 8, max_new_tokens: 24}\n"
    )
    phisight("train", recipe)
    phisight("evaluate", run)
    scores = json.loads((run / "scores.json").read_text())
    assert {"parse_rate", "category_accuracy", "title_exact", "price_mae", "shuffled"} <= scores.keys()
    phisight("report", run)
    assert (run / "report.html").stat().st_size > 10_000
