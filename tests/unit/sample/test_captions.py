"""Captioned drawings: what pretraining of the small base sees, and what is held back from it."""

import re
from pathlib import Path

import pyarrow.parquet as pq

from phisight.core.dataset_folder import METADATA
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.sample.captions.caption_content import HELD_BACK, TASK, captioned
from phisight.sample.captions.caption_folder import make_captions
from phisight.sample.captions.caption_vocabulary import NOUNS, SURFACES, TONES, distance
from phisight.sample.captions.everyday_vocabulary import everyday_texts
from phisight.sample.catalogue.designs import listings
from phisight.sample.catalogue.presets import PRESETS
from phisight.sample.catalogue.products import KINDS
from phisight.sample.catalogue.titles import title

DEMO = PRESETS["demo"]
ROWS = 3000


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def demo_words() -> set[str]:
    """Words of every title and category of the demo's catalogue."""
    found: set[str] = set()
    for design in range(3000):
        for listing in listings(0, DEMO, design):
            found |= words(title(listing.product, DEMO)) | words(" ".join(KINDS[listing.product.kind].category))
    return found


def test_no_caption_holds_a_word_of_the_demo_s_titles_and_categories() -> None:
    demo = demo_words()
    assert {"scarf", "trench", "red", "dotted", "sneakers", "scarves", "outerwear"} <= demo
    possible = words(TASK.prompt + TASK.answer) - set(TASK.names)
    for text in (*NOUNS.values(), *SURFACES.values(), *TONES):
        possible |= words(text)
    drawn: set[str] = set()
    for row in range(ROWS):
        drawn |= words(TASK.render(captioned(17, row).values()))
    assert not demo & (possible | drawn)


def test_no_drawing_has_a_color_of_the_demo_in_any_pattern() -> None:
    colors = [captioned(17, row).color for row in range(ROWS)]
    nearest = min(distance(color, held) for color in colors for held in DEMO.colors.values())
    assert HELD_BACK < nearest < HELD_BACK + 5  # as near as allowed, so that the test would see a nearer one


def test_captions_hold_no_price_and_are_written_in_another_form() -> None:
    assert not {"number", "price"} & {field.kind for field in TASK.fields.values()}
    assert TASK.prompt != Task().prompt
    text = TASK.render(captioned(17, 0).values())
    assert Task().parse(text).values is None


def test_every_kind_pattern_and_tone_occurs() -> None:
    drawn = [captioned(17, row) for row in range(ROWS)]
    assert {one.product.kind for one in drawn} == set(KINDS)
    assert {one.product.pattern for one in drawn} == set(SURFACES)
    assert {str(one.values()["heading"]).split()[0].lower() for one in drawn} == set(TONES)


def test_everyday_words_hold_the_words_of_a_price_list() -> None:
    texts = everyday_texts()
    assert {
        "Product",
        "Category",
        "Full",
        "Price",
        "Scarf",
        "SCARVES",
        "Red",
        "Striped",
        "BOXES",
        "tie",
        "TIES",
    } <= set(texts)
    assert len(set(texts)) > 0.95 * len(texts)


def test_the_folder_is_the_same_on_any_number_of_workers(tmp_path: Path) -> None:
    one = make_captions(12, tmp_path / "one", seed=5)
    make_captions(12, tmp_path / "two", seed=5, workers=2)
    tables = [pq.read_table(tmp_path / name / METADATA) for name in ("one", "two")]
    assert tables[0].equals(tables[1])
    assert one.rows == 12
    folder = DatasetFolder.open(tmp_path / "one")
    assert folder.task == TASK
    for row in folder.rows():
        assert folder.load_image(row).size == (row["image_width"], row["image_height"])
        assert TASK.parse(TASK.render(row)).values is not None


def test_the_share_held_out_can_be_everything(tmp_path: Path) -> None:
    make_captions(8, tmp_path / "data", seed=5, held_out=1.0)
    assert DatasetFolder.open(tmp_path / "data").card.splits == {"train": 0, "validation": 0, "test": 8}
