"""Models with one fault each, and the conclusion the certificate must come to; blind models by simulation."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from phisight.core.task import Task
from phisight.evaluate import EvalRow, certificate, evaluate, likelihoods, possible_modes
from phisight.evaluate.image_conditions import grids_of
from phisight.generate import Generation, Likelihood, load_rgb
from tests.helpers.shop import answer_of, make_rows

CAPTION = Task(answer="{title}", fields={"title": "text"})
COUNT = 24
ROOT = Path(__file__).parents[3]


def concluded(predictor: Any, rows: list[EvalRow], task: Task) -> dict[str, Any]:
    """The certificate over all image conditions that the rows allow."""
    grids = grids_of(rows)
    modes, _ = possible_modes(rows, task, 0, grids)
    every = {mode: evaluate(predictor, rows, task, images=mode, grids=grids) for mode in modes}
    seen = {mode: likelihoods(predictor, predictions) for mode, predictions in every.items()}
    return certificate(every, seen, one_grid=len(set(grids)) == 1)


class Planted:
    """A predictor whose belief about row ``index`` follows from what it is shown: (text, log probability of truth)."""

    max_new_tokens, constrained, numbers = 64, False, "text"

    def __init__(self, rows: list[EvalRow], belief: Callable[[int, Image.Image], tuple[str, float]]) -> None:
        self._rows, self._belief = rows, belief

    def _beliefs(self, requests: Iterable[Any]) -> Iterator[tuple[str, float]]:
        for index, request in enumerate(requests):
            yield self._belief(index, load_rgb(request.images[0]))

    def generations(self, requests: Iterable[Any], **_: Any) -> Iterator[tuple[int, Generation]]:
        for index, (text, _probability) in enumerate(self._beliefs(requests)):
            yield index, Generation(text, text)

    def likelihoods(self, requests: Iterable[Any], _answers: Any, **_: Any) -> Iterator[tuple[int, Likelihood]]:
        for index, (_text, probability) in enumerate(self._beliefs(requests)):
            yield index, Likelihood(probability, 8, "")


def red(image: Image.Image) -> int:
    """The number that a row's image shows."""
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


def sized_rows(folder: Path, sizes: int) -> list[EvalRow]:
    """Rows whose images come in so many sizes, one for each category; the category follows from the size."""
    rows = make_rows(folder, COUNT)
    for number, row in enumerate(rows):
        Image.new("RGB", (8 + number % sizes, 8), (number, 0, 99)).save(row.image)
    return rows


def test_a_label_leaked_through_the_prompt(tmp_path: Path) -> None:
    """Right whatever it is shown: the answers do not depend on the image."""
    rows = make_rows(tmp_path, COUNT)
    found = concluded(Planted(rows, lambda index, _image: (rows[index].expected, -0.1)), rows, Task())
    assert (found["conclusion"], found["uses_image"]) == ("no", False)


def test_a_label_in_the_file_name_does_not_reach_the_model(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, COUNT)
    named = []
    for row in rows:
        path = row.image.with_name(f"{row.truth['category3_code']}-{row.image.name}")
        row.image.rename(path)
        named.append(EvalRow(row.key, path, row.truth, row.expected))

    def by_name(index: int, image: Image.Image) -> tuple[str, float]:
        name = str(getattr(image, "filename", "")) + str(image.info)
        known = any(str(row.truth["category3_code"]) in name for row in named)
        return (named[index].expected if known else answer_of(3)), (-0.1 if known else -9.0)

    assert concluded(Planted(named, by_name), named, Task())["conclusion"] == "no"


def test_features_replaced_by_their_mean(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, COUNT)
    assert concluded(Planted(rows, lambda _index, _image: (answer_of(12), -8.0)), rows, Task())["conclusion"] == "no"


def test_placeholders_that_are_never_filled(tmp_path: Path) -> None:
    """What the decoder sees is noise of the placeholders' embeddings, the same for an image of the same size."""
    rows = sized_rows(tmp_path, 1)
    noise = {(8, 8): 5, (9, 8): 6}

    def unfilled(_index: int, image: Image.Image) -> tuple[str, float]:
        return answer_of(noise.get(image.size, 0)), -7.0

    assert concluded(Planted(rows, unfilled), rows, Task())["conclusion"] == "no"


def test_another_product_s_features(tmp_path: Path) -> None:
    """Every image is read as the next product's: wrong for its own image as for any other."""
    rows = make_rows(tmp_path, COUNT)

    def shifted(index: int, image: Image.Image) -> tuple[str, float]:
        seen = (red(image) + 1) % COUNT
        return answer_of(seen), (-0.1 if seen == index else -9.0)

    assert concluded(Planted(rows, shifted), rows, Task())["conclusion"] == "no"


@pytest.mark.parametrize("sizes", [2, 4])
def test_a_model_that_reads_the_size_only(tmp_path: Path, sizes: int) -> None:
    rows = sized_rows(tmp_path, sizes)

    def by_size(index: int, image: Image.Image) -> tuple[str, float]:
        kind = image.width - 8
        return answer_of(kind), (-1.0 if index % sizes == kind else -9.0)

    found = concluded(Planted(rows, by_size), rows, Task())
    assert (found["conclusion"], found["uses_image"]) == ("shape only", False)
    assert found["log_likelihood"]["shuffled"]["p_value"] < 0.01
    assert "uses the image's shape only" in found["line"]


def test_a_model_that_looks_at_images_of_several_sizes(tmp_path: Path) -> None:
    rows = sized_rows(tmp_path, 3)

    def looks(index: int, image: Image.Image) -> tuple[str, float]:
        return answer_of(red(image)), (-0.1 if red(image) == index else -9.0)

    found = concluded(Planted(rows, looks), rows, Task())
    assert (found["conclusion"], found["uses_image"]) == ("yes", True)


def test_sizes_that_no_two_products_share_cannot_be_told_from_content(tmp_path: Path) -> None:
    rows = sized_rows(tmp_path, COUNT)
    found = concluded(
        Planted(rows, lambda index, image: (answer_of(red(image)), -abs(red(image) - index))), rows, Task()
    )
    assert (found["conclusion"], found["uses_image"]) == ("too few", None)


def test_a_caption_with_one_word_wrong_is_still_read_off_the_image(tmp_path: Path) -> None:
    """No title is exactly right, and the words still come from the image."""
    rows = []
    for number, row in enumerate(make_rows(tmp_path, COUNT)):
        title = " ".join(f"w{number}x{word}" for word in range(14))
        rows.append(EvalRow(row.key, row.image, {"title": title}, title))

    def caption(index: int, image: Image.Image) -> tuple[str, float]:
        words = str(rows[red(image)].truth["title"]).split() if red(image) < COUNT else []
        return " ".join([*words[:-1], "oops"]), (-2.0 if red(image) == index else -57.0)

    found = concluded(Planted(rows, caption), rows, CAPTION)
    assert found["metrics"]["shuffled"]["title_exact"]["difference"] == 0.0
    assert found["fields"]["shuffled"]["title"]["real"] == pytest.approx(13 / 14)
    assert found["conclusion"] == "yes"


def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("certificate_simulation", ROOT / "benchmarks" / "certificate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_blind_models_are_not_told_to_look_and_weak_ones_are_found() -> None:
    """A smaller run of benchmarks/certificate.py, which states the rates."""
    simulated = simulation()
    for kind, design in itertools.product(simulated.BLIND, ("24 x 10", "12 x 20")):
        conclusions = [simulated.trial(kind, simulated.DESIGNS[design], seed)["conclusion"] for seed in range(4)]
        assert "yes" not in conclusions, f"{kind}, {design}"
    weak = [simulated.trial(simulated.WEAK, None, seed)["conclusion"] for seed in range(5)]
    assert weak.count("yes") >= 4


def test_a_blind_model_passes_when_rows_are_taken_for_independent() -> None:
    """The fault that groups repair: the same trials with every photo a product of its own."""
    simulated = simulation()
    fooled = 0
    for seed in range(12):
        found = simulated.trial("by product", simulated.DESIGNS["12 x 20"], seed, independent=True)
        fooled += any(field["p_value"] < 0.01 for field in found["fields"]["shuffled"].values())
    assert fooled >= 3
