"""Paths as tables of other systems, shops and the hub's cache have them lead to the right file, or to a named row."""

from __future__ import annotations

import base64
import os
import unicodedata
from pathlib import Path

import pytest

from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.fetch.addresses import is_address, redacted
from phisight.data.fetch.local_files import LocalFiles
from phisight.data.fetch.request import job_for
from phisight.data.images.image_names import written_image
from phisight.data.images.rejection import Rejection
from tests.helpers.images import encoded, smooth_image

IMAGE = encoded(smooth_image(0))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a few files; their content is their path."""
    for name in ("photos/1.jpg", "photos/Summer Hat.JPG", "photos/a%20b.png", "photos/50%.jpg", "other/deep/2.jpeg",
                 "photos/3", "photos/x.jpg", "photos/x.png", "photos/é.jpg", "other/twice.jpg", "photos/twice.jpg",
                 "photos/what?.jpg", "photos/it's.jpg"):  # fmt: skip
        path = tmp_path / "shop" / unicodedata.normalize("NFD", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "secret.jpg").write_text("secret")
    return tmp_path / "shop"


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("photos/1.jpg", "photos/1.jpg"), ("./photos/1.jpg", "photos/1.jpg"), ("photos\\1.jpg", "photos/1.jpg"),
        (".\\photos\\1.jpg", "photos/1.jpg"), ("photos//1.jpg", "photos/1.jpg"), ("'photos/1.jpg'", "photos/1.jpg"),
        ('"photos/1.jpg"', "photos/1.jpg"), ("/photos/1.jpg", "photos/1.jpg"), ("file:photos/1.jpg", "photos/1.jpg"),
        ("photos/Summer%20Hat.JPG", "photos/Summer Hat.JPG"), ("photos/summer hat.jpg", "photos/Summer Hat.JPG"),
        ("PHOTOS/SUMMER HAT.jpg", "photos/Summer Hat.JPG"), ("photos/a%20b.png", "photos/a%20b.png"),
        ("photos/50%.jpg", "photos/50%.jpg"), ("photos/50%25.jpg", "photos/50%.jpg"), ("photos/1", "photos/1.jpg"),
        ("photos/3", "photos/3"), ("2.jpeg", "other/deep/2.jpeg"), ("2", "other/deep/2.jpeg"),
        ("photos/é.jpg", "photos/é.jpg"), ("photos/%C3%A9.jpg", "photos/é.jpg"), ("photos/1.jpg?v=12", "photos/1.jpg"),
        ("photos/1.jpg#top", "photos/1.jpg"), ("photos/what?.jpg", "photos/what?.jpg"),
        ("photos/it's.jpg", "photos/it's.jpg"), ("x.png", "photos/x.png"),
        ("C:\\Shops\\me\\shop\\photos\\1.jpg", "photos/1.jpg"), ("D:/data/photos/1.jpg", "photos/1.jpg"),
        ("file:///C:/Shops/me/photos/1.jpg", "photos/1.jpg"), ("/mnt0/me/old shop/photos/1.jpg", "photos/1.jpg"),
    ],
)  # fmt: skip
def test_a_path_leads_to_its_file(text: str, file: str, shop: Path) -> None:
    files = LocalFiles(shop)
    assert files.find(text).read_text() == file
    literal = (shop / text).is_file()
    assert bool(files.remarks) != literal, "what is found otherwise than it is written is said"


def test_whole_paths(shop: Path) -> None:
    for text in (str(shop / "photos/1.jpg"), (shop / "photos/1.jpg").as_uri(), f"file://localhost{shop}/photos/1.jpg"):
        assert LocalFiles(shop).find(text).read_text() == "photos/1.jpg"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("photos/x", "missing_file"), ("twice.jpg", "missing_file"), ("/mnt0/me/twice.jpg", "outside_root"),
        ("photos/none.jpg", "missing_file"), ("../secret.jpg", "outside_root"), ("..\\secret.jpg", "outside_root"),
        ("%2e%2e/secret.jpg", "outside_root"), ("file:///etc/passwd", "outside_root"), ("/etc/passwd", "outside_root"),
        ("photos/../../secret.jpg", "outside_root"), ("photos/\0.jpg", "missing_file"), ("a" * 5000, "missing_file"),
        ("photos", "missing_file"), (".", "missing_file"), ("~/1.jpg", "missing_file"),
        ("other/1.jpg", "missing_file"), ("/mnt0/other/deep/1.jpg", "outside_root"),
    ],
)  # fmt: skip
def test_what_leads_nowhere_or_out_is_named(text: str, kind: str, shop: Path) -> None:
    with pytest.raises(Rejection) as error:
        LocalFiles(shop).find(text)
    assert (error.value.kind, "\n" in error.value.reason) == (kind, False)


def test_links_lead_out_only_where_the_fence_allows_it(shop: Path) -> None:
    (shop / "photos/link.jpg").symlink_to("../../secret.jpg")
    with pytest.raises(Rejection, match="--image-fence"):
        LocalFiles(shop).find("photos/link.jpg")
    assert LocalFiles(shop, shop.parent).find("photos/link.jpg").read_text() == "secret"
    assert LocalFiles(shop, shop.parent).find("../secret.jpg").read_text() == "secret"


def test_a_snapshot_of_the_hub_is_links_to_blobs(tmp_path: Path) -> None:
    repository = tmp_path / "datasets--me--shop"
    snapshot = repository / "snapshots" / "0a1b"
    (snapshot / "images").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for n in range(3):
        (repository / "blobs" / f"sha{n}").write_bytes(encoded(smooth_image(n)))
        (snapshot / "images" / f"{n}.jpg").symlink_to(f"../../../blobs/sha{n}")
    lines = "file_name,title,price\n" + "".join(f"images/{n}.jpg,Thing {n},{n}.50\n" for n in range(3))
    (repository / "blobs" / "table").write_text(lines)
    (snapshot / "metadata.csv").symlink_to("../../blobs/table")
    assert build(str(snapshot), tmp_path / "ds").kept == 3


def test_names_that_are_no_utf8_are_found(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_text("here")
    for text in ("caf%E9.jpg", "café.jpg", "CAFÉ.JPG"):
        assert LocalFiles(tmp_path).find(text).read_text() == "here"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_images_written_as_text(kind: str) -> None:
    data = encoded(smooth_image(1), kind)
    plain = base64.b64encode(data).decode()
    lines = "\n".join(plain[at : at + 76] for at in range(0, len(plain), 76))
    safe = base64.urlsafe_b64encode(data).decode().rstrip("=")
    for text in (plain, lines, safe, f"data:image/x;base64,{plain}", f"DATA:IMAGE/x;charset=u;base64,{safe}"):
        job = job_for(text, None)
        assert (job.body, job.path, job.url) == (data, None, None)


@pytest.mark.parametrize("text", ["photos/1.jpg", "Quickdraw" * 30 + "!", "data:text/plain,hi", "", "/9j/short"])
def test_other_texts_are_no_images(text: str) -> None:
    assert written_image(text) is None


@pytest.mark.parametrize("form", ["data:image/jpeg;base64,{}", "{}"])
def test_a_table_of_images_in_text(form: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [
        f'p{n},Thing {n},{n}.50,"{form.format(base64.b64encode(encoded(smooth_image(n))).decode())}"' for n in range(4)
    ]
    path.write_text("\n".join(["sku,title,price,photo", *rows, 'p9,Thing,1.50,"data:image/png;base64,%%%"']))
    result = build(str(path), tmp_path / "ds")
    assert (result.kept, "--image photo" in result.guesses) == (4, True)
    assert {row["photo"] for row in DatasetFolder.open(tmp_path / "ds").rows()} == {""}
    rejects = (tmp_path / "ds" / "rejects.jsonl").read_text()
    assert '"url": "data:"' in rejects
    assert "%%%" not in rejects


def test_a_table_below_its_images_needs_the_fence(tmp_path: Path) -> None:
    (tmp_path / "shop/tables").mkdir(parents=True)
    for n in range(3):
        (tmp_path / f"shop/{n}.jpg").write_bytes(encoded(smooth_image(n)))
    path = tmp_path / "shop/tables/t.csv"
    path.write_text("sku,title,photo\n" + "".join(f"p{n},Thing {n},../{n}.jpg\n" for n in range(3)))
    assert build(str(path), tmp_path / "ds", BuildOptions(image_fence=tmp_path / "shop")).kept == 3
    with pytest.raises(Exception, match="outside_root 3"):
        build(str(path), tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "address"), [("file:///a/1.jpg", False), ("C:\\a\\1.jpg", False), ("//host/1.jpg", True)]
)
def test_what_is_an_address(text: str, address: bool) -> None:
    assert is_address(text) == address


def test_an_address_without_a_scheme_keeps_no_secret() -> None:
    assert redacted("//user:PW@host.org/1.jpg?token=SECRET") == "//host.org/1.jpg"
    job = job_for("//host.org/1.jpg", None)
    assert job.url == "https://host.org/1.jpg"
