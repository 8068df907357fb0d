"""Training with foreign images: how many, which, what they are answered with, exact resume, caches, packing, pairs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phisight.core.errors import DatasetError, SettingsError
from phisight.core.recipe import read_config, recipe_from
from phisight.core.run_folder import CONFIG, FOREIGN_IMAGES
from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.foreign_images import FOREIGN, foreign_count, foreign_examples, kinds_of, read_foreign
from phisight.data.dataset.preference_pairs import CHOSEN, REJECTED
from phisight.sample.foreign.foreign_folder import HELD_OUT, TRAINED, make_foreign
from phisight.train.examples.abstaining import TrainingImages, foreign_pairs
from phisight.workflows.plan import plan
from phisight.workflows.train import Prepared, train
from tests.helpers.answer_pairs import write_pairs
from tests.helpers.resumed_run import assert_equal_runs, stopped_after
from tests.helpers.small_run import save_small_model, small_recipe

NO_VALUE = "Product: not shown, Category: not shown, Full Price: not shown"


@pytest.fixture(scope="module")
def made(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    folder = tmp_path_factory.mktemp("abstain")
    save_small_model(products, folder / "model")
    pairs = write_pairs(products, folder / "pairs.jsonl")

    def recipe(out: Path, *, features: float = 0, abstain: dict[str, Any] | None = None, **settings: Any) -> Recipe:
        values = small_recipe(products, folder / "model", out, **settings).model_dump(mode="json")
        values["data"]["feature_cache_gb"] = features
        values["train"]["abstain"] = {"share": 0.25} if abstain is None else abstain
        if values["train"]["objective"] == "dpo":
            values["preference"]["pairs"] = str(pairs)
        return recipe_from(values)

    return recipe


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora", "numbers": "head"},
        {"method": "lora", "packing": True, "features": 1, "numbers": "text"},
        {"method": "lora", "from_layer": 1, "numbers": "digit_weighted"},
        {"objective": "dpo", "numbers": "text"},
    ],
    ids=str,
)
def test_a_stopped_run_continues_bit_for_bit(
    made: Callable[..., Recipe], tmp_path: Path, settings: dict[str, Any]
) -> None:
    short = {"steps": 8, "log_every": 4, "save_every": 3, "evaluate_every": 8, **settings}
    seen: list[Prepared] = []
    said: list[str] = []
    whole = train(made(tmp_path / "a" / "run", **short), announce=seen.append, notify=said.append)
    assert any("foreign images" in line for line in said)
    stopped = stopped_after(whole, tmp_path / "b" / "run", 3)
    train(made(stopped, **short), resume=True)
    assert_equal_runs(stopped, whole)


def test_the_share_is_of_all_examples_and_the_run_records_the_task(
    made: Callable[..., Recipe], products: Path, tmp_path: Path
) -> None:
    seen: list[Prepared] = []
    recipe = made(tmp_path / "run", steps=1)
    run = train(recipe, announce=seen.append)
    rows = len(DatasetFolder.open(products).rows("train"))
    added = seen[0].train_rows - rows
    assert added == foreign_count(rows, 0.25)
    assert added / seen[0].train_rows == pytest.approx(0.25, abs=0.02)
    drawn = read_foreign(run / FOREIGN_IMAGES)
    assert len(drawn.rows) == added
    assert kinds_of(drawn.rows) == sorted(list(TRAINED)[:added])  # in turn
    assert not set(kinds_of(drawn.rows)) & set(HELD_OUT)
    task = read_config(run / CONFIG).task
    assert task is not None
    assert task.abstains
    assert task.parse(NO_VALUE).values == dict.fromkeys(task.names)
    assert plan(recipe, measure_cpu=False).rows == seen[0].train_rows


def test_a_later_run_keeps_the_task_of_its_start(made: Callable[..., Recipe], tmp_path: Path) -> None:
    first = train(made(tmp_path / "first", steps=1, abstain={"share": 0.2, "word": "nothing of it"}))
    later = made(tmp_path / "later", steps=1, abstain={"share": 0.0}).model_dump(mode="json")
    later["model"]["name"] = str(first)
    task = read_config(train(recipe_from(later)) / CONFIG).task
    assert task is not None
    assert {field.absent for field in task.fields.values()} == {"nothing of it"}
    assert not (tmp_path / "later" / FOREIGN_IMAGES).exists()


def test_every_image_comes_before_one_comes_again(tmp_path: Path, products: Path) -> None:
    make_foreign(7, tmp_path / "foreign", seed=1)
    images, task = read_foreign(tmp_path / "foreign"), DatasetFolder.open(products).task.abstaining()
    names = [row["file_name"] for row in foreign_examples(images.rows, 17, 3, task)]
    assert len(set(names[:7])) == len(set(names[7:14])) == 7
    assert names[:7] != names[7:14]
    assert names == [row["file_name"] for row in foreign_examples(images.rows, 17, 3, task)]
    assert names != [row["file_name"] for row in foreign_examples(images.rows, 17, 4, task)]
    assert {task.render(row) for row in foreign_examples(images.rows, 17, 3, task)} == {NO_VALUE}


def test_the_rejected_side_is_invented(made: Callable[..., Recipe], products: Path, tmp_path: Path) -> None:
    make_foreign(5, tmp_path / "foreign", seed=1)
    folder = DatasetFolder.open(products)
    task, rows = folder.task.abstaining(), folder.rows("train")
    source = TrainingImages(folder, None, read_foreign(tmp_path / "foreign"))
    recipe = made(tmp_path / "run", objective="dpo", numbers="text")
    pairs = foreign_pairs(source.foreign, recipe, task, 30, rows)
    assert len(pairs) == foreign_count(30, 0.25)
    assert {pair[CHOSEN] for pair in pairs} == {NO_VALUE}
    assert {pair[REJECTED] for pair in pairs} <= {folder.task.render(row) for row in rows}
    assert len({pair[REJECTED] for pair in pairs}) > 2
    assert source.load(pairs[0]).size == (pairs[0]["image_width"], pairs[0]["image_height"])


def test_a_plain_folder_and_what_is_left_out(products: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "street").mkdir(parents=True)
    Image.new("RGB", (60, 40), (9, 90, 200)).save(folder / "street" / "1.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    own = DatasetFolder.open(products)
    shutil.copy(own.image_path(own.rows("test")[0]), folder / "product.jpg")
    (folder / "notes.txt").write_text("not an image", encoding="utf-8")
    found = read_foreign(folder, own)
    assert [row[FOREIGN] for row in found.rows] == ["street"]
    assert len(found.left_out) == 2
    assert any("product.jpg is an image of the data set" in line for line in found.left_out)
    (folder / "street" / "1.png").unlink()
    with pytest.raises(DatasetError, match="no usable foreign image") as error:
        read_foreign(folder, own)
    assert "\n" not in str(error.value)
    with pytest.raises(DatasetError, match="sample make --foreign"):
        read_foreign(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("abstain", "words"),
    [
        ({"word": "absent"}, r"train\.abstain\.share is 0"),
        ({"kinds": ["noise"]}, r"train\.abstain\.share is 0"),
        ({"share": 0.1, "images": "data/foreign", "kinds": ["noise"]}, "leave one of them out"),
        ({"share": 0.1, "word": "a, Category: b"}, "cannot be read back"),
    ],
    ids=str,
)
def test_settings_without_effect(
    made: Callable[..., Recipe], tmp_path: Path, abstain: dict[str, Any], words: str
) -> None:
    with pytest.raises(Exception, match=words) as found:
        train(made(tmp_path / "run", abstain=abstain))
    assert isinstance(found.value, SettingsError) or "cannot be read back" in str(found.value)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_a_word_that_is_a_value_is_refused(made: Callable[..., Recipe], products: Path, tmp_path: Path) -> None:
    rows = DatasetFolder.open(products).rows("train")
    word = str(rows[0]["category3_code"])
    held = sum(row["category3_code"] == word for row in rows)
    with pytest.raises(SettingsError, match=rf"{held} of {len(rows)} training rows hold") as found:
        train(made(tmp_path / "run", abstain={"share": 0.1, "word": word}))
    assert "train.abstain.word" in str(found.value)


def test_the_card_lists_the_kinds(tmp_path: Path) -> None:
    make_foreign(9, tmp_path / "foreign", seed=0, kinds=["noise", "page", "noise"])
    card = json.loads((tmp_path / "foreign" / "sample.json").read_text(encoding="utf-8"))
    assert card["settings"]["kinds"] == {"noise": 5, "page": 4}
