"""Each kind of source gives its rows, its images and its types."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.errors import SettingsError, SourceError
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.sources.hub import HubName
from phisight.data.sources.layouts.open import open_source
from tests.helpers.hub_server import Hub, phisight_on, running_hub
from tests.helpers.image_server import ImageServer
from tests.helpers.images import encoded, smooth_image, write_images

BURBERRY = {
    "website_name": "Burberry", "competence_date": "2023-08-20", "country_code": "USA", "currency_code": "USD",
    "brand": "BURBERRY", "category1_code": "WOMEN", "category2_code": "ACCESSORIES", "category3_code": "SCARVES",
    "product_code": 80176401, "title": "Check Scarf", "itemurl": "https://us.example/p80176401", "imageurl": "",
    "full_price": 470.0, "price": 470.0, "full_price_eur": 430.5, "price_eur": 430.5, "flg_discount": 0,
}  # fmt: skip
"""The 17 columns of DBQ/Burberry.Product.prices.United.States."""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def burberry_rows(server: ImageServer, count: int) -> list[dict[str, Any]]:
    return [
        BURBERRY | {"product_code": 80176401 + n, "title": f"Check Scarf {n}", "imageurl": f"{server.url}/ok/{n}.jpg"}
        for n in range(count)
    ]


@pytest.mark.process
def test_the_study_s_data_set_from_the_hub(server: ImageServer, tmp_path: Path) -> None:
    """Parquet with exactly the 17 columns; the default task fits, images come from their addresses."""
    rows = burberry_rows(server, 20)
    hub = Hub()
    hub.repos["DBQ/Burberry.Product.prices.United.States"] = {"data/train-00000-of-00001.parquet": parquet(rows)}
    with running_hub(hub):
        source = "hf:DBQ/Burberry.Product.prices.United.States"
        done = phisight_on(
            hub, tmp_path / "home", "data", "build", source, "--out", str(tmp_path / "ds"), "--allow-private"
        )
    assert done.returncode == 0, done.stderr
    assert "--image imageurl" in done.stdout
    data = DatasetFolder.open(tmp_path / "ds")
    assert len(data) == 20
    assert data.task.render(data.rows()[0]) == "Product: Check Scarf 0, Category: SCARVES, Full Price: 470.0"
    assert data.table.schema.field("product_code").type == pa.int64()
    assert data.table.schema.field("full_price_eur").type == pa.float64()
    assert set(BURBERRY) <= set(data.table.column_names)
    assert data.card.source["revision"]


@pytest.mark.process
def test_hub_data_sets_of_files_and_names_that_are_none(tmp_path: Path) -> None:
    hub = Hub()
    table = "file_name,title\n" + "".join(f"{n}.jpg,T{n}\n" for n in range(3))
    hub.repos["shop/files"] = {f"{n}.jpg": encoded(smooth_image(n)) for n in range(3)} | {
        "metadata.csv": table.encode()
    }
    with running_hub(hub):
        done = phisight_on(hub, tmp_path / "home", "data", "build", "hf:shop/files", "--out", str(tmp_path / "files"))
        missing = phisight_on(hub, tmp_path / "home", "data", "build", "hf:shop/nothing", "--out", str(tmp_path / "no"))
    assert done.returncode == 0, done.stderr
    assert len(DatasetFolder.open(tmp_path / "files")) == 3
    assert missing.returncode == 1
    assert "error: hf:shop/nothing cannot be read" in missing.stderr
    assert "hf_secret" not in missing.stderr


@pytest.mark.process
def test_class_labels_of_the_hub_are_names(tmp_path: Path) -> None:
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["dress", "shirt"], "_type": "ClassLabel"},
    }
    rows = [{"image": {"bytes": encoded(smooth_image(n)), "path": None}, "label": n % 2} for n in range(6)]
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    hub = Hub()
    hub.repos["shop/labels"] = {"data/train-00000-of-00001.parquet": file.getvalue()}
    with running_hub(hub):
        done = phisight_on(hub, tmp_path / "home", "data", "build", "hf:shop/labels", "--out", str(tmp_path / "ds"))
    assert done.returncode == 0, done.stderr
    assert {row["label"] for row in DatasetFolder.open(tmp_path / "ds").rows()} == {"dress", "shirt"}


def test_names_of_the_hub() -> None:
    assert HubName.parse("hf:a/b@v1.0:main#train") == HubName("a/b", "v1.0", "main", "train")
    with pytest.raises(SourceError, match="is no hub data set"):
        HubName.parse("hf:just-a-name")


@pytest.mark.parametrize(("suffix", "delimiter"), [("tsv", "\t"), ("csv", ";"), ("csv", ",")])
def test_delimited_files(tmp_path: Path, suffix: str, delimiter: str) -> None:
    names = write_images(tmp_path, 2)
    lines = [["sku", "title", "price", "image"], ["00123", "Ünïcode", "1.5", names[0]], ["1e5", "B", "2", names[1]]]
    (tmp_path / f"t.{suffix}").write_text("\n".join(delimiter.join(line) for line in lines), encoding="utf-8-sig")
    build(str(tmp_path / f"t.{suffix}"), tmp_path / "ds")
    rows = DatasetFolder.open(tmp_path / "ds").rows()
    assert [(row["sku"], row["title"], row["price"]) for row in rows] == [("00123", "Ünïcode", 1.5), ("1e5", "B", 2.0)]


def test_other_encodings_are_named_not_guessed(tmp_path: Path) -> None:
    names = write_images(tmp_path, 1)
    (tmp_path / "t.csv").write_bytes(f"id,title,image\n1,Größe,{names[0]}\n".encode("cp1252"))
    with pytest.raises(SourceError, match="--encoding"):
        build(str(tmp_path / "t.csv"), tmp_path / "ds")
    build(str(tmp_path / "t.csv"), tmp_path / "ds", BuildOptions(encoding="cp1252"))
    assert DatasetFolder.open(tmp_path / "ds").rows()[0]["title"] == "Größe"


def conversation(number: int, image: str, *talk: str) -> dict[str, Any]:
    speakers = ("human", "gpt")
    return {
        "id": f"c{number}",
        "image": image,
        "conversations": [{"from": speakers[at % 2], "value": text} for at, text in enumerate(talk)],
    }


def test_conversations(tmp_path: Path) -> None:
    names = write_images(tmp_path, 3)
    entries = [
        conversation(0, names[0], "<image>\nWhat is it?", "A hat"),
        conversation(1, names[1], "What is it?\n<image>", "A bag", "Which color?", "Red"),
        conversation(2, names[2], "What is it?", "A scarf", "A question nobody answered?"),
        {"id": "c3", "conversations": "none"},
        conversation(4, names[2], "only a question"),
    ]
    (tmp_path / "talk.json").write_text(json.dumps(entries))
    with pytest.raises(SettingsError, match=r"2 different questions .*'What is it\?' 3 times.*--prompt"):
        build(str(tmp_path / "talk.json"), tmp_path / "ds")
    result = build(str(tmp_path / "talk.json"), tmp_path / "ds", BuildOptions(prompt="What is it?"))
    assert (result.read, result.kept) == (7, 3)
    assert result.rejected == {"other_question": 1, "malformed_row": 3}
    data = DatasetFolder.open(tmp_path / "ds")
    assert data.task.prompt == "What is it?"
    assert [data.task.render(row) for row in data.rows()] == ["A hat", "A bag", "A scarf"]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def test_webdataset_shards(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for shard in range(2):
        with tarfile.open(shards / f"{shard:05d}.tar", "w") as tar:
            for n in range(3):
                key = f"{shard}{n:04d}"
                add(tar, f"{key}.jpg", encoded(smooth_image(10 * shard + n)))
                add(tar, f"{key}.json", json.dumps({"title": f"T{key}", "price": n + 1}).encode())
    with tarfile.open(shards / "00002.tar", "w") as tar:
        add(tar, "../../evil.json", json.dumps({"title": "E", "price": 1}).encode())
        add(tar, "../../evil.jpg", encoded(smooth_image(99)))
        add(tar, "broken.json", b"{")
        add(tar, "blind.json", json.dumps({"title": "no image", "price": 1}).encode())
    result = build(str(shards), tmp_path / "ds")
    assert (result.read, result.kept) == (9, 7)
    assert result.rejected == {"malformed_row": 1, "no_image": 1}
    rows = DatasetFolder.open(tmp_path / "ds").rows()
    assert [row["__key__"] for row in rows][:3] == ["00000", "00001", "00002"]
    assert rows[1]["price"] == 2
    assert not (tmp_path.parent / "evil.jpg").exists()


def test_a_shard_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.jpg", encoded(smooth_image(1)))
        add(tar, "1.txt", b"one")
    (tmp_path / "b.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:900])
    with pytest.raises(SourceError, match="no whole tar file"):
        open_source(str(tmp_path / "b.tar"))
