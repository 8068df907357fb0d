"""The model card: what is known stands in it, and what is not known is said."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from phisight.core.recipe import recipe_from
from phisight.core.task import Task
from phisight.export.describe import license_of_base
from phisight.export.model_card import CardFacts, license_of, model_card, sections_of
from phisight.export.subject import Subject

SCORES: dict[str, Any] = {
    "rows": 120,
    "title_exact": 0.5,
    "category_accuracy": 0.875,
    "price_mae": 12.3456,
    "title_tokens": 0.9,
    "parse_rate": 0.95,
    "intervals": {"title_exact": [0.41, 0.59], "category_accuracy": [0.81, 0.93]},
    "prediction_intervals": {"price": {"coverage": 0.79, "level": 0.8}},
    "calibration": {
        "title": {"table": [{"low": 0.5, "high": 0.75, "rows": 31, "confidence": 0.621, "right": 0.613}]},
    },
    "verdict": {"uses_image": True, "lines": ["uses the image: yes", "not checked: base model"]},
}
SECTIONS = [
    "Trained on", "Figures", "What its confidence is worth", "Does it look at the image?", "Limits", "Licenses",
    "How to call it",
]  # fmt: skip
DATA = {"rows": 400, "splits": {"train": 360, "test": 40}, "source": {"name": "shop.csv", "license": "CC-BY-4.0"}}


def facts(**changes: Any) -> CardFacts:
    train = changes.pop("train", {"method": "lora", "steps": 1200, "numbers": "text"})
    recipe = recipe_from({"out": "runs/x", "model": {"name": "some/base"}, "data": {"path": "shop"}, "train": train})
    known: dict[str, Any] = {
        "title": "products", "recipe": recipe, "task": Task(), "base": "some/base", "model_license": "mit",
        "dtype": "float32", "adapters": False, "data": DATA, "scores": SCORES,
    }  # fmt: skip
    return CardFacts(**{**known, **changes})


def front_matter(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_every_section_stands_in_it_once_and_in_order() -> None:
    for card in (model_card(facts()), model_card(facts(scores={}, data={}, recipe=None, model_license=None))):
        assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == SECTIONS
        assert "[More Information Needed]" not in card
        assert "None" not in card
        assert card.endswith("\n")


def test_a_scored_run_has_its_figures_with_intervals() -> None:
    found = sections_of(model_card(facts()))
    assert "On 120 rows" in found["Figures"]
    assert "| title_exact | 0.500 | 0.410 to 0.590 |" in found["Figures"]
    assert "| category_accuracy | 0.875 | 0.810 to 0.930 |" in found["Figures"]
    assert "| price_mae | 12.346 |  |" in found["Figures"], "a figure without an interval"
    assert "| price: coverage of the 80% interval | 0.790 | |" in found["Figures"]
    assert "title_tokens" not in found["Figures"]
    assert "| title | 50% to 75% | 31 | 62.1% | 61.3% |" in found["What its confidence is worth"]


def test_the_certificate_is_told_line_by_line() -> None:
    told = sections_of(model_card(facts()))["Does it look at the image?"]
    assert told.splitlines() == ["- uses the image: yes", "- not checked: base model"]


def test_an_unscored_run_says_so() -> None:
    found = sections_of(model_card(facts(scores={})))
    assert found["Figures"].startswith("Not evaluated yet: `phisight evaluate RUN`")
    assert found["Does it look at the image?"].startswith("Not checked")
    assert "raw sequence probabilities" in found["What its confidence is worth"]
    assert "could not be read" not in found["Limits"]


def test_what_it_was_trained_on() -> None:
    told = sections_of(model_card(facts()))["Trained on"]
    assert "Data: `shop.csv`, 400 rows (360 train, 40 test)" in told
    assert "Method: lora, 1,200 steps" in told
    assert "Seed: 0" in told
    unknown = sections_of(model_card(facts(data={})))["Trained on"]
    assert "an unknown number of rows (splits not known)" in unknown
    assert "Not known" in sections_of(model_card(facts(recipe=None)))["Trained on"]


def test_limits() -> None:
    told = sections_of(model_card(facts()))["Limits"]
    assert "5.0% of its answers on those rows could not be read" in told
    assert "It knows the categories of its training rows only." in told
    assert "number_head.safetensors" not in told
    head = facts(train={"method": "lora", "numbers": "head"}, remote_code="config.json names the hub's own code")
    told = sections_of(model_card(head))["Limits"]
    assert "number_head.safetensors" in told
    assert "- config.json names the hub's own code" in told
    texts = Task(prompt="What?", answer="Title: {title}", fields={"title": {"kind": "text"}})
    assert "categories" not in sections_of(model_card(facts(task=texts)))["Limits"]


def test_licenses_known_and_unknown() -> None:
    known = model_card(facts())
    assert front_matter(known)["license"] == "mit"
    assert sections_of(known)["Licenses"].splitlines() == ["- Model: mit", "- Data: CC-BY-4.0"]
    own = model_card(facts(model_license="My own license"))
    assert front_matter(own)["license"] == "other"
    unknown = model_card(facts(model_license=None, data={}))
    assert "license" not in front_matter(unknown)
    told = sections_of(unknown)["Licenses"]
    assert "Model: not stated by `some/base`; ask who published it" in told
    assert "Data: not stated in the data set; ask who owns the images" in told


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("README.md", "---\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("README.md", "# A card without front matter\n", None),
        ("README.md", "---\ntags: [a]\n---\n", None),
        ("README.md", "---\n[broken\n---\n", None),
        ("LICENSE", "\n  MIT License\nCopyright\n", "MIT License"),
        ("other.txt", "MIT", None),
    ],
)
def test_where_a_license_is_stated(file: str, text: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    assert license_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("base", "expected"), [("tiny", "mit"), ("microsoft/Phi-3.5-vision-instruct", "mit"), ("my/own", None)]
)
def test_the_license_of_a_base(base: str, expected: str | None, tmp_path: Path) -> None:
    """Of a folder that states none; what a folder states comes first."""
    assert license_of_base(base, Subject(base, tmp_path, str(tmp_path))) == expected
    if base != "tiny":
        (tmp_path / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
        assert license_of_base(base, Subject(base, tmp_path, str(tmp_path))) == "cc0-1.0"


def test_front_matter_of_adapters_and_of_whole_weights() -> None:
    whole, adapters = front_matter(model_card(facts())), front_matter(model_card(facts(adapters=True)))
    assert (whole["library_name"], adapters["library_name"]) == ("transformers", "peft")
    assert "lora" in adapters["tags"]
    assert "lora" not in whole["tags"]
    assert whole["base_model"] == "some/base"
    for place in ("/models/base", "base", "the tiny model that phisight makes", "a/b/c"):
        assert "base_model" not in front_matter(model_card(facts(base=place))), "no name of a hub"
    calls = sections_of(model_card(facts(adapters=True)))["How to call it"]
    assert 'phisight.load("FOLDER")' in calls
    assert "PEFT loads the adapters onto it" in calls


def test_an_export_of_an_export_keeps_what_its_card_told() -> None:
    """There is no run to tell it anew; limits and how to call it are written anew."""
    first = model_card(facts())
    again = model_card(facts(recipe=None, scores={}, data={}, base="products", earlier=sections_of(first)))
    before, now = sections_of(first), sections_of(again)
    for name in SECTIONS:
        if name not in ("Limits", "How to call it"):
            assert now[name] == before[name]
