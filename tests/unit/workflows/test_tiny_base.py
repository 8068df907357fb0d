"""``tiny-base``: found by its name wherever a model is named; its card says what it can do."""

import json
from pathlib import Path

import pytest

from phisight.core.errors import RunError
from phisight.core.recipe import load_recipe
from phisight.core.run_folder import METRICS
from phisight.core.settings import ModelSettings
from phisight.export.origins import ORIGINS
from phisight.export.subject import subject_of
from phisight.model.tiny import TINY_BASE, packaged_folder
from phisight.sample.captions.caption_folder import make_captions
from phisight.workflows import doctor, pretrain_base
from phisight.workflows.export import export_model
from phisight.workflows.extract import load_extractor
from phisight.workflows.load import load_model, resolved_revision
from phisight.workflows.plan import plan
from phisight.workflows.show_tokens import labeled_tokens
from phisight.workflows.train import train

pytestmark = pytest.mark.usefixtures("forked_exports")

ROOT = Path(__file__).parents[3]
MOST_BYTES = 10_000_000
STRAY = 2
"""Answers of 200 that may differ on another processor."""


@pytest.fixture(scope="module")
def run(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of recipes/tiny-cpu.yaml, with adapters."""
    out = tmp_path_factory.mktemp("runs") / "fine-tuned"
    changes = ["train.steps=3", "train.batch_size=4", "train.evaluate_every=3", "train.log_every=1", "lora.rank=2"]
    changes += ["train.numbers=text"]
    return train(load_recipe(ROOT / "recipes" / "tiny-cpu.yaml", [*changes, f"data.path={products}", f"out={out}"]))


def test_the_folder_is_small_and_whole() -> None:
    names = {path.name for path in packaged_folder().iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "README.md"} <= names
    assert sum(path.stat().st_size for path in packaged_folder().iterdir()) <= MOST_BYTES


@pytest.mark.slow
def test_the_card_s_figures_are_those_of_200_drawings() -> None:
    stated = json.loads((packaged_folder() / pretrain_base.FIGURES_FILE).read_text())
    measured = pretrain_base.caption_figures(TINY_BASE)
    assert measured.keys() == stated.keys()
    for name, figure in measured.items():
        assert figure == pytest.approx(stated[name], abs=STRAY / 200), name
    card = (packaged_folder() / "README.md").read_text()
    assert f"| {stated['noun']:.1%} |" in card
    assert stated["noun"] > 0.8  # one of fifty by chance


@pytest.mark.slow
def test_twenty_steps_of_its_recipe_run(tmp_path: Path) -> None:
    make_captions(120, tmp_path / "captions", seed=17)
    pretrain_base.untrained_base(tmp_path / "untrained")
    changes = [f"out={tmp_path / 'run'}", f"data.path={tmp_path / 'captions'}", f"model.name={tmp_path / 'untrained'}"]
    few = ["train.steps=20", "train.log_every=5", "train.evaluate_every=20", "train.answer_rows=0"]
    run = train(load_recipe(ROOT / "recipes" / "tiny-base.yaml", [*changes, *few]))
    losses = [json.loads(line).get("train/loss") for line in (run / METRICS).read_text().splitlines()]
    found = [loss for loss in losses if loss]
    assert found[-1] < found[0] - 0.5
    figures = pretrain_base.pack_base(run, tmp_path / "packed")
    assert figures["rows"] == 200
    assert (tmp_path / "packed" / "model.safetensors").stat().st_size < MOST_BYTES


def test_it_loads_by_name_with_its_own_tokenizer() -> None:
    model, processor = load_model(TINY_BASE, ModelSettings(name=TINY_BASE, dtype="float32"))
    assert sum(parameter.numel() for parameter in model.parameters()) < 5_000_000
    assert (
        processor.tokenizer.decode(processor.tokenizer("Red Scarf, SCARVES")["input_ids"][1:]) == "Red Scarf, SCARVES"
    )
    assert resolved_revision(ModelSettings(name=TINY_BASE)) is None
    assert subject_of(TINY_BASE).weights == str(packaged_folder())


def test_doctor_plan_and_tokens_know_it(products: Path) -> None:
    recipe = load_recipe(ROOT / "recipes" / "tiny-cpu.yaml", [f"data.path={products}"])
    found = [one for one in doctor.examine(recipe) if one.about == "model"]
    assert [(one.verdict, TINY_BASE in one.text) for one in found] == [("ok", True)]
    assert plan(recipe, measure_cpu=False).steps == recipe.train.steps == 900
    assert list(labeled_tokens(products, model=TINY_BASE, rows=1))


def test_a_run_notes_it_by_name_and_version(run: Path) -> None:
    noted = json.loads((run / ORIGINS).read_text())["model"]
    assert (noted["name"], noted["absolute"]) == (TINY_BASE, None)
    assert noted["fingerprint"]
    assert subject_of(run / "best").weights == str(packaged_folder())


def test_a_run_on_another_version_of_it_is_refused(run: Path) -> None:
    path = run / ORIGINS
    kept = path.read_text()
    noted = json.loads(kept)
    noted["model"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(noted))
    try:
        with pytest.raises(RunError, match="another version"):
            subject_of(run)
    finally:
        path.write_text(kept)


@pytest.mark.parametrize("adapter", [False, True], ids=["merged", "adapters"])
def test_its_adapters_are_exported_and_read_fields(run: Path, products: Path, tmp_path: Path, adapter: bool) -> None:
    export_model(run, tmp_path / "model", adapter=adapter, rows=2)
    image = next((products / "images").rglob("*.jpg"))
    # Adapters are put onto the base's own 16 bits, whose rounding decides what a model of few steps says.
    names = (run, tmp_path / "model")
    one, other = (load_extractor(name, dtype="float32").extract(image).text for name in names)
    assert one == other
