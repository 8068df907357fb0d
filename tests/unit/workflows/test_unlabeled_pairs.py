"""Images without answers: the majority against minorities, above an agreement, and continued after a stop."""

import json
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import RunError, SettingsError, SourceError
from phisight.core.read_files import read_object, read_objects
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import OUTSIDE, PAIRS, read_pairs
from phisight.evaluate import read_rows
from phisight.workflows.pairs.make_pairs import ANSWERS, SUMMARY, Sampling, make_pairs
from phisight.workflows.pairs.pair_answers import consensus
from phisight.workflows.pairs.unlabeled_images import unlabeled_images
from tests.helpers.images import encoded, smooth_image

TASK = Task(answer="K: {k}, N: {n}", fields={"k": "category", "n": "number"})


def answer(k: str, n: float) -> str:
    return TASK.render({"k": k, "n": n})


@pytest.mark.parametrize(
    ("answers", "agreement", "values", "agreed"),
    [
        ([answer("A", 10)] * 3 + [answer("B", 10)], 0.7, {"k": "A", "n": 10.0}, {"k", "n"}),
        ([answer("A", 10)] * 3 + [answer("B", 10)], 0.8, {"k": "A", "n": 10.0}, {"n"}),
        ([answer("A", 10)] * 2 + [answer("B", 90)] * 2, 0.6, {"k": "A", "n": 10.0}, set()),
        ([answer("A", n) for n in (100, 104, 96, 300)], 0.7, {"k": "A", "n": 100.0}, {"k", "n"}),
        ([answer("A", 10)] * 2 + ["no form"] * 2, 0.6, {"k": "A", "n": 10.0}, set()),
        (["no form"], 0.6, None, set()),
        ([], 0.6, None, set()),
    ],
)
def test_the_majority_of_all_answers(
    answers: list[str], agreement: float, values: dict[str, Any] | None, agreed: set[str]
) -> None:
    found = consensus(TASK, answers, agreement)
    assert (found.values if found else None) == values
    assert (set(found.agreed) if found else set()) == agreed


def test_the_order_of_the_answers_does_not_matter() -> None:
    for kinds in product("ABC", repeat=4):
        answers = [answer(kind, 10 + index) for index, kind in enumerate(kinds)]
        assert consensus(TASK, answers, 0.5) == consensus(TASK, answers[::-1], 0.5)


@pytest.fixture
def photos(tmp_path: Path, products: Path) -> Path:
    """Six images of their own, one twice, one of the validation split, a file that is none, a hidden one."""
    folder, path = DatasetFolder.open(products), tmp_path / "photos"
    (path / "more").mkdir(parents=True)
    for number in range(5):
        (path / f"{number}.jpg").write_bytes(encoded(smooth_image(number)))
    (path / "more" / "0.jpg").write_bytes(encoded(smooth_image(9)))
    shutil.copyfile(path / "0.jpg", path / "more" / "again.jpg")
    held = next(row for row in folder.rows() if row[SPLIT] != "train")
    shutil.copyfile(folder.image_path(held), path / "held.jpg")
    (path / "notes.txt").write_text("no image", encoding="utf-8")
    (path / ".hidden.jpg").write_bytes(encoded(smooth_image(10)))
    (path / "broken.jpg").write_bytes(b"no image")
    return path


def begun(run: Path, photos: Path, out: Path, said: Iterator[list[str]]) -> Sampling:
    """A folder whose every image has the answers that ``said`` gives, after a sampling that was stopped at once."""
    sampling = Sampling(samples=4, images=photos)

    class Stop(Exception):  # noqa: N818 - no error of the program
        pass

    def stop(_done: int, _total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        make_pairs(run, out, sampling, progress=stop)
    rows = json.loads((out / SUMMARY).read_text())["settings"]
    assert rows["images"] == str(photos)
    lines = [json.dumps([row, answers]) + "\n" for row, answers in enumerate(said)]
    (out / ANSWERS).write_text("".join(lines), encoding="utf-8")
    return sampling


def test_pairs_of_a_folder(tiny_run: Path, products: Path, photos: Path, tmp_path: Path) -> None:
    """Seven images are asked about: two give a pair, one is always answered the same, one not at all, one fails."""
    folder = DatasetFolder.open(products)
    one, other = [row.expected for row in read_rows(products, folder.task, "train").rows[:2]]
    text = next(iter(folder.task.of_kind("text")))
    values = folder.task.parse(one).values
    assert values is not None
    wrong = folder.task.render({**values, text: "Something Else"})
    said = iter([[one] * 3 + [wrong], [one] * 4, [one, one, other, other], [one, one, one, "?"], [""] * 4])
    out = tmp_path / "pairs"
    found = unlabeled_images(photos, folder)
    assert [row.key for row in found.rows] == [*(f"{n}.jpg" for n in range(5)), "broken.jpg", "more/0.jpg"]
    assert (found.held_back, found.repeated) == (1, 1)
    sampling = begun(tiny_run, photos, out, said)
    notes: list[str] = []
    made = make_pairs(tiny_run, out, sampling, notify=notes.append)  # asks about the last two, and says so
    assert any("1 images are left out" in note for note in notes)
    assert any("5 of 7 rows are answered" in note for note in notes)
    pairs = list(read_objects(out / PAIRS))
    assert [(pair["images"], pair["field"], pair["chosen"], pair["rejected"]) for pair in pairs[:2]] == [
        (["unlabeled/0.jpg"], text, one, wrong),
        (["unlabeled/3.jpg"], "{answer}", one, "?"),
    ]
    assert made.undecided >= 2
    assert made.always_right >= 1
    assert (made.rows, made.held_back, made.failed) == (7, 1, 1)
    rows, left_out = read_pairs(out, folder)
    assert left_out == []
    assert all(row[OUTSIDE] for row in rows)
    with pytest.raises(RunError, match="none of 7 rows gives a pair"):
        make_pairs(tiny_run, out, sampling, agreement=0.8)  # reads the same answers


def test_other_images_need_another_folder(tiny_run: Path, photos: Path, tmp_path: Path) -> None:
    sampling = begun(tiny_run, photos, tmp_path / "pairs", iter([]))
    (photos / "5.jpg").write_bytes(encoded(smooth_image(20)))
    with pytest.raises(SettingsError, match="choose another --out"):
        make_pairs(tiny_run, tmp_path / "pairs", sampling)


@pytest.mark.parametrize("agreement", [0.0, 0.5, 1.01, float("nan")])
def test_less_than_a_majority_is_refused(tiny_run: Path, photos: Path, tmp_path: Path, agreement: float) -> None:
    with pytest.raises(SettingsError, match="a majority"):
        make_pairs(tiny_run, tmp_path / "pairs", Sampling(images=photos), agreement=agreement)


def test_a_folder_without_images_is_said(products: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no image to ask about"):
        unlabeled_images(tmp_path, DatasetFolder.open(products))


def test_the_command_says_what_gave_no_pair(tiny_run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    begun(tiny_run, photos, out, iter([["?"] * 4] * 7))
    arguments = ["pairs", "make", str(tiny_run), "--out", str(out), "--samples", "4", "--images", str(photos)]
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, RunError)
    assert "none of 7 rows gives a pair (0 always right, 7 undecided, 0 unreadable)" in str(found.exception)
    assert read_object(out / SUMMARY)["counts"]["undecided"] == 7
