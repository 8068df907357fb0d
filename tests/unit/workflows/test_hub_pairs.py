"""Pairs of a hub data set: read from a hub on loopback, its splits kept apart by product, ready to train on."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.dataset_folder import GROUP
from phisight.core.read_files import read_objects
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.preference_pairs import CHOSEN, OUTSIDE, PAIRS, PROMPT, REJECTED, read_pairs
from tests.helpers.hub_server import Hub, phisight_on, running_hub
from tests.helpers.images import encoded, smooth_image


def shown(*seeds: int) -> list[dict[str, Any]]:
    return [{"bytes": encoded(smooth_image(seed)), "path": f"{seed}.jpg"} for seed in seeds]


def row(images: list[dict[str, Any]], chosen: str, group: str | None = None) -> dict[str, Any]:
    return {
        "images": images,
        "prompt": [{"role": "user", "content": "What is shown?"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": "A shoe"}],
        "group": group,
        "score": 0.5,
    }


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


TRAIN = [
    row(shown(1), "A scarf", "a"),
    row(shown(2), "A hat", "b"),
    row(shown(3), "A bag", "c"),  # of a group that validates
    row(shown(4), "A dress", "d"),  # of an image that validates
    row(shown(5, 6), "A set", "e"),
    row([{"bytes": b"no image", "path": "x.jpg"}], "A coat", "f"),
    row([], "A skirt", "g"),
]
VALIDATION = [row(shown(7), "A belt", "c"), row(shown(4), "A dress", "z")]


@pytest.mark.process
def test_the_splits_of_a_hub_data_set_are_kept_apart(products: Path, tmp_path: Path) -> None:
    hub = Hub()
    hub.repos["some/pairs"] = {
        "data/train-00000-of-00001.parquet": parquet(TRAIN),
        "data/validation-00000-of-00001.parquet": parquet(VALIDATION),
    }
    out = tmp_path / "pairs"
    with running_hub(hub):
        done = phisight_on(hub, tmp_path / "home", "pairs", "fetch", "hf:some/pairs", "--out", str(out))
        assert done.returncode == 0, done.stderr
        again = phisight_on(hub, tmp_path / "home", "pairs", "fetch", "hf:some/pairs", "--out", str(out))
    assert "3 pairs in" in done.stdout
    assert "2 rows are in other splits than train, 2 pairs show a product of theirs, the images of 2" in done.stdout
    assert "left out: row 6: an image cannot be used" in done.stderr
    assert again.returncode != 0
    assert "is not empty; choose another --out" in again.stderr
    assert [pair["group"] for pair in read_objects(out / PAIRS)] == ["a", "b", "e"]
    assert len(list((out / "fetched").iterdir())) == 4
    folder = DatasetFolder.open(products)
    rows, left_out = read_pairs(out, folder)
    assert left_out == []
    assert [(one[PROMPT], one[CHOSEN], one[REJECTED], one[GROUP]) for one in rows] == [
        ("What is shown?", chosen, "A shoe", group)
        for chosen, group in (("A scarf", "a"), ("A hat", "b"), ("A set", "e"))
    ]
    assert all(one[OUTSIDE] for one in rows)


@pytest.mark.process
def test_a_product_of_the_data_sets_own_validation_split_is_not_trained_on(products: Path, tmp_path: Path) -> None:
    """One split on the hub, without groups: the image's bytes say which product it is."""
    folder = DatasetFolder.open(products)
    held = next(one for one in folder.rows() if one["split"] != "train")
    image = {"bytes": folder.image_path(held).read_bytes(), "path": "held.jpg"}
    rows = [
        {name: value for name, value in row([image], "A hat").items() if name != "group"},
        TRAIN[0] | {"group": "q"},
    ]
    hub = Hub()
    hub.repos["some/pairs"] = {"data/train-00000-of-00001.parquet": parquet([{"group": None, **rows[0]}, rows[1]])}
    hub.repos["some/table"] = {"data/train-00000-of-00001.parquet": parquet([{"title": "a", "price": 1.0}])}
    with running_hub(hub):
        done = phisight_on(hub, tmp_path / "home", "pairs", "fetch", "hf:some/pairs", "--out", str(tmp_path / "pairs"))
        wrong = phisight_on(hub, tmp_path / "home", "pairs", "fetch", "hf:some/table", "--out", str(tmp_path / "table"))
    assert done.returncode == 0, done.stderr
    found, left_out = read_pairs(tmp_path / "pairs", folder)
    assert [one[CHOSEN] for one in found] == ["A scarf"]
    assert "not for training" in left_out[0]
    assert wrong.returncode != 0
    assert "hf:some/table has no column chosen, prompt" in wrong.stderr
    assert not (tmp_path / "table" / PAIRS).exists()
