"""Each recipe trains, with the tiny model in place of the published one; forkme names every setting."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from phisight.core.recipe import known_keys, load_recipe, recipe_from
from phisight.core.run_folder import BEST, METRICS
from phisight.core.settings import Recipe
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows import demo
from phisight.workflows.train import Prepared, train
from tests.helpers.answer_pairs import write_pairs

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
SMALL = [
    "model.name=tiny",
    "model.num_crops=1",
    "data.workers=0",
    "train.steps=2",
    "train.accumulate=1",
    "train.batch_size=2",
    "train.fsdp=false",  # one process here; several are tests/faults' business
    "train.log_every=1",
]
OF_ITS_OWN = {
    "top-layers-cached": "train.from_layer=3",  # of 4 instead of 24 of 32
    "tiny-base-headings": "task=null",  # whose fields only captions have
    "tiny-base-patterns": "task=null",
    "tiny-base-longer": "task=null",
    "tiny-base-more": "task=null",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    make(24, folder, seed=0, settings=preset("demo"))
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_trains(path: Path, data: Path, tmp_path: Path) -> None:
    if "qlora" in path.stem:
        pytest.importorskip("bitsandbytes", reason="the extra quantize is not installed")
    changes = [*SMALL, f"data.path={data}", f"out={tmp_path / 'run'}", OF_ITS_OWN.get(path.stem, "seed=1")]
    if "dpo" in path.stem:
        changes += [f"preference.pairs={write_pairs(data, tmp_path / 'pairs.jsonl')}", "train.evaluate_every=2"]
    recipe = load_recipe(path, changes)
    seen: list[Prepared] = []
    run = train(recipe, announce=seen.append)
    losses = [line["train/loss"] for line in _lines(run) if "train/loss" in line]
    assert len(losses) == 2
    assert sum(part.trained for part in seen[0].parts) > 0
    assert (run / BEST / "config.json").is_file()


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("start", "name"), [("tiny-base", "tiny-cpu"), ("nothing", "tiny-scratch")])
def test_the_demo_trains_what_a_recipe_says(start: demo.Start, name: str) -> None:
    of_demo, of_file = (
        recipe_from({**demo.RECIPES[start]}, [], source="the demo"),
        load_recipe(ROOT / "recipes" / f"{name}.yaml"),
    )
    their_own: Any = {"out": True, "data": {"path"}, "train": {"log_every"}, "evaluate": {"other_image_rows"}}
    assert of_demo.model_dump(exclude=their_own) == of_file.model_dump(exclude=their_own)


def test_forkme_names_every_setting_with_its_default() -> None:
    path = ROOT / "recipes" / "forkme.yaml"
    text = path.read_text(encoding="utf-8")
    assert _keys(yaml.safe_load(text)) == set(known_keys())
    assert load_recipe(path) == Recipe()
    lines = [line.strip() for line in text.splitlines()]
    for before, line in pairwise(lines):
        if line and not line.startswith("#"):
            assert before.startswith("#"), f"{line}: no sentence above it"


def _keys(values: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in values.items():
        found |= _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found
