"""SOURCE in every form gives the same images in the same order; a row that has none is an image that fails."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from phisight.core.errors import ImageError, SourceError
from phisight.data.fetch.limits import FetchLimits
from phisight.extraction.image_list import ImageList
from phisight.generate.requests import load_rgb
from tests.helpers.image_server import ImageServer

FILES = ["a.png", "b c.png", "d,e.png", "sub/f.png"]
COLORS = [(10 * number, 20, 30) for number in range(len(FILES))]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, color in zip(FILES, COLORS, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), color).save(folder / name)
    return folder


def colors(images: ImageList) -> list[Any]:
    """The color of each image, or why there is none."""
    found: list[Any] = []
    for one in images:
        try:
            found.append(load_rgb(one.image).getpixel((3, 3)))
        except ImageError as error:
            found.append(str(error))
    return found


def csv_of(photos: Path) -> str:
    path = photos.parent / "t.csv"
    lines = [f'"{name}",{row}' for row, name in enumerate(FILES)]
    path.write_text("\n".join(["file_name,title", *lines]) + "\n")
    return str(path)


def tsv_of(photos: Path) -> str:
    path = photos.parent / "t.tsv"
    path.write_text("\n".join(["title\tphoto", *(f"{row}\t{name}" for row, name in enumerate(FILES))]) + "\n")
    return str(path)


def jsonl_of(photos: Path) -> str:
    path = photos.parent / "t.jsonl"
    path.write_text("".join(json.dumps({"image": name}) + "\n" for name in FILES))
    return str(path)


def json_of(photos: Path) -> str:
    path = photos.parent / "t.json"
    path.write_text(json.dumps([{"image": name, "x": 1} for name in FILES]))
    return str(path)


def parquet_of(photos: Path) -> str:
    path = photos.parent / "t.parquet"
    pq.write_table(pa.table({"image": FILES}), path)
    return str(path)


def embedded_of(photos: Path) -> str:
    path = photos.parent / "e.parquet"
    pq.write_table(pa.table({"image": [{"bytes": (photos / name).read_bytes(), "path": name} for name in FILES]}), path)
    return str(path)


def bytes_of(photos: Path) -> str:
    path = photos.parent / "b.parquet"
    pq.write_table(pa.table({"image": [(photos / name).read_bytes() for name in FILES]}), path)
    return str(path)


def excel_of(photos: Path) -> str:
    book = openpyxl.Workbook()
    for line in (["image", "title"], *([name, "x"] for name in FILES)):
        book.active.append(line)
    book.save(photos.parent / "t.xlsx")
    return str(photos.parent / "t.xlsx")


def tar_of(photos: Path) -> str:
    path = photos.parent / "t.tar"
    with tarfile.open(path, "w") as archive:
        for row, name in enumerate(FILES):
            archive.add(photos / name, f"{row:03}.png")
            text = json.dumps({"title": name}).encode()
            info = tarfile.TarInfo(f"{row:03}.json")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return str(path)


def metadata_of(photos: Path) -> str:
    lines = "".join(json.dumps({"file_name": name, "title": "x"}) + "\n" for name in FILES)
    (photos / "metadata.jsonl").write_text(lines)
    return str(photos)


TABLES = [csv_of, tsv_of, jsonl_of, json_of, parquet_of, embedded_of, bytes_of, excel_of, tar_of, metadata_of]


@pytest.mark.parametrize("write", TABLES, ids=lambda write: write.__name__)
def test_every_kind_of_table(write: Callable[[Path], str], photos: Path) -> None:
    images = ImageList([write(photos)], root=photos)
    assert colors(images) == COLORS
    assert len(images) in (0, len(FILES))
    names = [one.name for one in images]
    if write is bytes_of:
        assert names == ["row 1", "row 2", "row 3", "row 4"]
    elif write is not tar_of:
        assert names == FILES


def test_folder_glob_and_names(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "notes.txt").write_text("no image")
    assert colors(ImageList([str(photos)])) == COLORS
    assert [one.name for one in ImageList([str(photos)])] == FILES
    glob = ImageList([str(photos / "**" / "*.png")])
    assert colors(glob) == COLORS
    assert [one.name for one in glob] == [str(photos / name) for name in FILES]
    every = [str(photos / name) for name in FILES]
    assert colors(ImageList(every)) == COLORS
    for separator in (b"\n", b"\r\n", b"\0"):
        listed = separator.join(os.fsencode(name) for name in every) + separator
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
        piped = ImageList(["-"])
        assert colors(piped) == colors(piped) == COLORS
        assert [one.name for one in piped] == every


def test_several_sources_one_after_the_other(photos: Path) -> None:
    images = ImageList([str(photos / "a.png"), str(photos), csv_of(photos), str(photos / "a.png")], root=photos)
    assert colors(images) == [COLORS[0], *COLORS, *COLORS, COLORS[0]]
    assert len(images) == 0 or len(images) == 10
    assert [one.name for one in images][1] == str(photos / "a.png")


def test_folders_wherever_they_are(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A way through a hidden folder, or up, hides no image; hidden files and folders below SOURCE are left out."""
    hidden = photos.parent / ".hidden" / "photos"
    hidden.parent.mkdir()
    photos.rename(hidden)
    (hidden / ".thumbnails").mkdir()
    Image.new("RGB", (16, 12)).save(hidden / ".thumbnails" / "x.png")
    (hidden.parent / "here").mkdir()
    monkeypatch.chdir(hidden.parent / "here")
    for name in (str(hidden), "../photos"):
        assert colors(ImageList([name])) == COLORS


UNUSUAL: list[str | bytes] = [
    "new\nline.png",
    "com,ma.png",
    'quo"te.png',
    " space .png",
    "日本.png",
    b"caf\xe9.png",
    "#hash.png",
    "[x].png",
]


def test_unusual_names_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(UNUSUAL):
        path = os.fsencode(folder) + b"/" + os.fsencode(name)
        with open(path, "wb") as file:  # noqa: PTH123 - bytes are no Path
            Image.new("RGB", (16, 12), (number, 0, 0)).save(file, "PNG")
    for images in (ImageList([str(folder)]), ImageList([str(folder / "*")])):
        assert sorted(color[0] for color in colors(images)) == list(range(len(UNUSUAL)))
        assert all(one.name.encode() for one in images)
        assert any(one.name.endswith("caf\\udce9.png") for one in images)
    (only,) = ImageList([str(folder / "[x].png")])
    assert load_rgb(only.image).getpixel((0, 0)) == (7, 0, 0)


def test_a_file_that_is_not_called_an_image(photos: Path) -> None:
    (photos / "a.png").rename(photos / "photo")
    assert colors(ImageList([str(photos / "photo")])) == COLORS[:1]
    (photos / "t.csv").write_bytes(b"BMW,image\n1,b c.png\n")  # begins as a BMP does
    assert colors(ImageList([str(photos / "t.csv")])) == COLORS[1:2]


def test_rows_without_an_image_keep_their_place(photos: Path) -> None:
    table = photos / "t.csv"
    rows = ["a.png,1", ",2", "gone.png,3", "../t.csv,4", "b c.png,5,too,many", "notes.txt,6", "ftp://x/y.png,7"]
    rows += ["http://127.0.0.1:9/a.png?token=secret,8", "sub/f.png,9"]
    table.write_text("image,n\n" + "\n".join(rows) + "\n")
    (photos / "notes.txt").write_text("no image")
    images = ImageList([str(table)], limits=FetchLimits(attempts=1))
    found = colors(images)
    assert (found[0], found[-1], len(found)) == (COLORS[0], COLORS[3], len(rows))
    words = ["empty", "no file 'gone.png'", "leads out of", "row 5", "not JPEG", "scheme 'ftp'", "127.0.0.1"]
    assert all(word in reason for word, reason in zip(words, found[1:-1], strict=True)), found
    assert not any("secret" in reason for reason in found[1:-1])
    assert [one.name for one in images][7] == "http://127.0.0.1:9/a.png?token=secret"


def test_addresses_under_the_guard(server: ImageServer, photos: Path) -> None:
    urls = [f"{server.url}/ok/0", f"{server.url}/404/1", f"{server.url}/html/2"]
    table = photos / "t.jsonl"
    table.write_text("".join(json.dumps({"url": url}) + "\n" for url in urls))
    for sources in ([str(table)], urls):
        found = colors(ImageList(sources, limits=FetchLimits(allow_private=True, attempts=1)))
        assert isinstance(found[0], tuple)
        assert "no such image" in found[1] or "404" in found[1]
        assert "web page" in found[2]
        guarded = colors(ImageList(sources, limits=FetchLimits(attempts=1)))
        assert all("private" in str(reason) or "public" in str(reason) for reason in guarded)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing-there", "there is no file or folder"),
        ("no-*.png", "matches no file"),
        ("empty", "holds no table and no image"),
        ("-", "standard input names no image"),
        ("t.zip", "unpack it"),
        ("no-images.csv", "name it with --image-column"),
    ],
)
def test_sources_that_are_none(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.zip").write_bytes(b"PK\3\4")
    (tmp_path / "no-images.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=words) as error:
        ImageList([name])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["readme.txt", "paper.pdf", "photos.zip", "words.docx", "page.html", "no_ending"])
def test_a_file_that_is_no_source_is_told_what_one_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("Some words.\nAnd more of them.\n")
    with pytest.raises(
        SourceError, match=f"{name}: .*; predictions are made of images, a folder of images, or a table"
    ):
        ImageList([str(tmp_path / name)])


def test_a_glob_leaves_out_what_is_being_written(photos: Path) -> None:
    for name in ("out.csv", "out.csv.partial.jsonl"):
        (photos / name).write_text("x")
    every = ImageList([str(photos / "*")])
    rest = ImageList([str(photos / "*")], without=[photos / "out.csv", photos / "out.csv.partial.jsonl"])
    assert len(every) == len(rest) + 2
    assert len(rest) == 3


def test_a_column_that_is_not_there(photos: Path) -> None:
    with pytest.raises(SourceError, match="has no column 'photo_url'; its columns are file_name, title"):
        ImageList([csv_of(photos)], "photo_url")
    assert colors(ImageList([csv_of(photos)], "file_name", root=photos)) == COLORS


@pytest.mark.parametrize("place", ["argument", "table"])
@pytest.mark.parametrize("address", ["https://user:secret@127.0.0.1/a.jpg", "http://secret@127.0.0.1/a.jpg?size=9"])
def test_no_name_holds_a_password(address: str, place: str, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(f"image\n{address}\n")
    (named,) = ImageList([address if place == "argument" else str(table)])
    assert "secret" not in named.name
    assert named.name.endswith("127.0.0.1/a.jpg")


def test_addresses_keep_what_tells_them_apart(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("image\nhttps://a.org/i?id=1\nhttps://a.org/i?id=2&by=a@b.c\n")
    assert [one.name for one in ImageList([str(table)])] == ["https://a.org/i?id=1", "https://a.org/i?id=2&by=a@b.c"]


@pytest.mark.parametrize("root", ["gone", "rows.csv"])
def test_a_root_that_is_no_folder_is_named_once(root: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image\na.jpg\n")
    with pytest.raises(SourceError, match=f"--image-root .*{root} is no folder"):
        ImageList([str(tmp_path / "rows.csv")], root=tmp_path / root)
