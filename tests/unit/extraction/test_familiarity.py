"""How unlike the training images an image is: the threshold's rate, what it finds, its file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from phisight.core.errors import CheckpointError
from phisight.core.run_folder import UNFAMILIAR
from phisight.core.task import Task
from phisight.extraction.answer import AnswerReader
from phisight.extraction.familiarity import Familiarity
from phisight.generate.completions import Completion

TASK = Task(answer="Name: {title}, Price: {price}", fields={"title": "text", "price": "number"})
TEXT = "Name: Hat, Price: 12.0"
WIDTH = 24


def images(seed: int, count: int, *, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """Features with a few directions in which they vary much, as images of one domain do."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(4, WIDTH))
    found = 5 + rng.normal(size=(count, 4)) @ directions * 3 + spread * rng.normal(size=(count, WIDTH)) + shift
    return found.astype(np.float32)


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.1])
def test_false_alarms_are_as_rare_as_promised(rate: float) -> None:
    """New images of the same kind exceed the threshold about as often as stated, also with as many features as rows."""
    over = []
    for seed in range(8):
        found = Familiarity.fit(images(3 * seed, 60), images(3 * seed + 1, 400), rate)
        fresh = images(3 * seed + 2, 2000)
        over.append(float((found.distances(fresh) > found.threshold).mean()))
    assert rate / 3 < np.mean(over) < rate * 2


def test_other_images_are_found() -> None:
    found = Familiarity.fit(images(1, 300), images(2, 300), 0.02)
    assert np.mean(found.distances(images(3, 200, shift=4.0)) > found.threshold) > 0.95
    assert np.mean(found.distances(images(3, 200, spread=4.0)) > found.threshold) > 0.95
    assert found.score(images(3, 1)) < 1


def test_the_least_familiar_of_several_images_counts() -> None:
    found = Familiarity.fit(images(1, 300), images(2, 300), 0.02)
    near, far = images(3, 1), images(3, 1, shift=6.0)
    assert found.score(np.concatenate([near, far])) == pytest.approx(found.score(far))
    assert found.score(far) > 1 > found.score(near)


def completion(features: np.ndarray, text: str = TEXT, unread: str | None = None) -> Completion:
    pooled = torch.from_numpy(features)
    return Completion(0, text, text, [1], [text.encode()], [-0.1], unread=unread, pooled=pooled)


def test_an_unfamiliar_image_is_refused_where_answers_may_abstain() -> None:
    known = Familiarity.fit(images(1, 300), images(2, 300), 0.02)
    near, far = images(3, 1), images(3, 1, shift=6.0)
    bounds = {"price": lambda number: (number - 1, number + 1)}
    reader = AnswerReader(TASK.abstaining(), bounds, familiarity=known)
    answer = reader.read(completion(far))
    assert dict(answer) == {"title": None, "price": None}
    assert (answer.ok, answer.is_refused, answer.is_unfamiliar, answer.text) == (True, True, True, TEXT)
    assert (answer.confidence, answer.interval, answer.overall_confidence) == ({}, {}, None)
    assert answer.json() == {"title": None, "price": None}
    kept = reader.read(completion(near))
    assert (kept["title"], kept.is_refused, kept.is_unfamiliar) == ("Hat", False, False)
    assert kept.confidence
    assert kept.interval
    together = reader.read(completion(np.concatenate([near, far])))
    assert together.is_refused
    assert reader.read(completion(far, "nonsense")).error
    assert reader.read(completion(far, unread="cut at 3 tokens")).error == "not read: cut at 3 tokens"
    said = reader.read(completion(near, "Name: not shown, Price: not shown"))
    assert (said.is_refused, said.is_unfamiliar) == (True, False)
    # a task whose answers may not abstain keeps its values, and nothing known refuses nothing
    plain = AnswerReader(TASK, familiarity=known).read(completion(far))
    assert (plain["title"], plain.is_refused, plain.is_unfamiliar) == ("Hat", False, True)
    assert AnswerReader(TASK.abstaining()).read(completion(far))["title"] == "Hat"


def test_few_validation_images_take_the_largest_distance() -> None:
    validation = images(2, 10)
    found = Familiarity.fit(images(1, 50), validation, 0.02)
    assert found.threshold == pytest.approx(found.distances(validation).max())


def test_features_that_never_change_are_no_division_by_zero() -> None:
    flat = images(1, 50)
    flat[:, 0] = 3.0
    found = Familiarity.fit(flat, flat, 0.02)
    assert np.isfinite(found.distances(images(2, 20))).all()
    one = Familiarity.fit(flat[:1], flat[:1], 0.02)
    assert np.isfinite(one.distances(flat)).all()


def test_the_file_holds_all_of_it(tmp_path: Path) -> None:
    found = Familiarity.fit(images(1, 80), images(2, 80), 0.05)
    found.write(tmp_path)
    again = Familiarity.read(tmp_path / UNFAMILIAR)
    assert again is not None
    assert again.facts() == found.facts()
    assert np.array_equal(again.distances(images(3, 9)), found.distances(images(3, 9)))
    assert Familiarity.read(None) is None
    assert Familiarity.read(tmp_path / "nowhere") is None


def test_a_file_of_fewer_features_reads_the_first_ones() -> None:
    """Earlier versions had mean and standard deviation alone."""
    few = Familiarity.fit(images(1, 80)[:, :9], images(2, 80)[:, :9], 0.05)
    fresh = images(3, 9)
    assert np.array_equal(few.distances(fresh), few.distances(fresh[:, :9]))


@pytest.mark.parametrize("damage", ["cut", "format", "tensors", "shapes"])
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    found = Familiarity.fit(images(1, 80), images(2, 80), 0.05)
    found.write(tmp_path)
    path = tmp_path / UNFAMILIAR
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "shapes":
        replace(found, mean=found.mean[:3]).write(tmp_path)
    else:
        about = {"format": "phisight-unfamiliar/9" if damage == "format" else "phisight-unfamiliar/1", "facts": "{}"}
        save_file({"mean": found.mean}, path, about)
    with pytest.raises(CheckpointError, match="evaluate the run again") as error:
        Familiarity.read(path)
    assert "\n" not in str(error.value)
