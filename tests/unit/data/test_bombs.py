"""What a build may cost: small files that ask for minutes or gigabytes are named in seconds and some hundred MB."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SettingsError, SourceError, StorageError
from phisight.data.build.build_dataset import build
from phisight.data.build.work.decode_child import DecodeChildren
from phisight.data.build.work.image_store import ImageStore
from phisight.data.build.work.worklog import entry
from phisight.data.images.decode import ImageLimits, prepare_image
from phisight.data.images.decode_cost import MOST_DIRECTORIES, MOST_SCANS, TimedBytes, is_expensive
from phisight.data.images.rejection import Rejection, StoredImage
from phisight.data.sources.layouts.open import open_source
from tests.helpers import bombs
from tests.helpers.image_server import ImageServer, running
from tests.helpers.images import encoded, smooth_image
from tests.helpers.url_list import OPTIONS, write_list

MEMORY_OF = """
import resource, sys
from phisight.data.sources.layouts.open import open_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = malformed = 0
try:
    source = open_source(sys.argv[1], max_bytes=50_000_000)
    for batch in source.batches():
        rows += batch.table.num_rows
        malformed += len(batch.malformed)
    said = f"{rows} {malformed}"
except Exception as error:
    said = f"{type(error).__name__} {error}"
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
print(said)
"""


def prepared_kind(data: bytes) -> str:
    try:
        return prepare_image(data, ImageLimits())[0].notes
    except Rejection as rejection:
        return rejection.kind


def test_scans_and_directories_are_counted_before_anything_is_decoded() -> None:
    assert prepared_kind(bombs.jpeg_of_scans(1)) == ""
    assert prepared_kind(bombs.jpeg_of_scans(MOST_SCANS - 20)) == ""
    assert prepared_kind(bombs.jpeg_of_scans(6000)) == "too_many_scans"
    assert "animated" in prepared_kind(bombs.tiff_of_directories(MOST_DIRECTORIES))
    assert prepared_kind(bombs.tiff_of_directories(40_000)) == "too_many_scans"


def test_a_decoder_that_takes_too_long_is_stopped() -> None:
    file = TimedBytes(b"x" * 100, seconds=-1)
    with pytest.raises(Rejection, match="not decoded after") as caught:
        file.read(1)
    assert caught.value.kind == "decode_time"


def test_a_jpeg_of_many_scans_hides_in_no_tiff() -> None:
    size = (200, 200)
    assert prepared_kind(bombs.tiff_of_a_jpeg(encoded(smooth_image(0, size)), size)) == "converted"
    assert prepared_kind(bombs.tiff_of_a_jpeg(bombs.jpeg_of_scans(6000, size), size)) == "too_many_scans"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "TIFF", "PNG", "HEIF"])
def test_a_decoder_that_takes_the_whole_file_is_stopped(tmp_path: Path, kind: str) -> None:
    """The next image finds another process."""
    if kind == "HEIF":
        pytest.importorskip(
            "pillow_heif", reason="pillow-heif, which writes HEIC, is not installed"
        ).register_heif_opener()
    large = encoded(smooth_image(0, (4000, 3500)), kind, **({"speed": 10} if kind == "AVIF" else {}))
    good = encoded(smooth_image(1), "TIFF")

    async def results() -> list[StoredImage | Rejection]:
        with DecodeChildren(ImageStore(tmp_path, ImageLimits()), seconds=0.005) as children:
            slow = await children.decode_and_store(large)
            children._seconds = 60.0  # a new process loads its decoders first
            return [slow, await children.decode_and_store(good)]

    slow, other = asyncio.run(results())
    assert isinstance(slow, Rejection)
    assert (slow.kind, slow.reason) == ("decode_time", "not decoded after 0.005 s of processor time")
    assert isinstance(other, StoredImage)
    assert (tmp_path / other.file_name).stat().st_size == other.size


def test_a_child_says_what_the_process_itself_would(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, ImageLimits(max_pixels=1000))
    bodies = [encoded(smooth_image(2, size), "WEBP") for size in ((20, 30), (200, 300))] + [b"", b"<html>"]

    async def results() -> list[StoredImage | Rejection]:
        with DecodeChildren(store) as children:
            return await asyncio.gather(*map(children.decode_and_store, bodies))

    found, expected = asyncio.run(results()), [store.decode_and_store(body) for body in bodies]
    assert [entry("", one) for one in found] == [entry("", one) for one in expected]


def test_a_folder_that_cannot_be_written_ends_the_build_from_a_child(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("in the way")
    with DecodeChildren(ImageStore(tmp_path, ImageLimits())) as children, pytest.raises(StorageError, match="written"):
        asyncio.run(children.decode_and_store(encoded(smooth_image(1), "TIFF")))


def test_what_is_expensive_is_told_from_the_header() -> None:
    assert not is_expensive(encoded(smooth_image(0, (900, 900)), "JPEG"))
    assert not is_expensive(encoded(smooth_image(0, (900, 900)), "PNG"))
    assert is_expensive(encoded(smooth_image(0, (3000, 2000)), "JPEG"))
    assert is_expensive(encoded(smooth_image(0, (1500, 1500)), "JPEG", progressive=True))
    assert is_expensive(encoded(smooth_image(0, (90, 90)), "TIFF"))
    variants: list[dict[str, Any]] = [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}]
    for options in variants:
        assert not is_expensive(encoded(smooth_image(0, (900, 900)), "WEBP", **options))
        assert is_expensive(encoded(smooth_image(0, (1200, 1200)), "WEBP", **options))


def test_slow_images_cost_the_others_nothing(tmp_path: Path) -> None:
    """Images that decode for long, between good rows with a short time limit."""
    slow = bombs.jpeg_of_scans(60, (2500, 2500))
    images = [slow if at % 20 == 0 else encoded(smooth_image(at)) for at in range(60)]
    with running(ImageServer(images, latency_s=0.3)) as server:
        table = write_list(tmp_path / "t.csv", [f"{server.url}/ok/{at}" for at in range(60)])
        options = replace(OPTIONS, fetch=replace(OPTIONS.fetch, total_s=2, read_s=2), processes=1)
        result = build(str(table), tmp_path / "ds", options)
    assert result.rejected["timeout"] == 0
    assert result.kept == 60


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "repeated.parquet": (lambda path: bombs.parquet_of_one_value(path, 1000, 1_000_000), "1000 0"),
    "zeros.parquet": (lambda path: bombs.parquet_of_zeros(path, 300_000_000), "SourceError"),
    "cell.parquet": (lambda path: bombs.parquet_of_a_large_cell(path, 60_000_000), "2 1"),
    "unfolds.parquet": (lambda path: bombs.parquet_that_unfolds(path, 90_000_000, 900), "SourceError"),
    "texts.xlsx": (lambda path: bombs.workbook_of_one_text(path, 20_000, 30_000), "SourceError"),
    "members.tar": (lambda path: bombs.tar_of_large_members(path, 2, 100_000_000), "1 2"),
    "header.tar": (lambda path: bombs.tar_of_a_large_header(path, 200_000_000), "SourceError"),
    "row.jsonl": (lambda path: bombs.jsonl_of_a_large_row(path, 150_000_000), "2 1"),
    "record.json": (lambda path: bombs.json_of_a_large_record(path, 300_000_000), "2 1"),
    "row.csv": (lambda path: bombs.csv_of_a_large_row(path, 150_000_000), "2 1"),
}


def test_a_workbook_of_repeated_text_is_read_below_its_cap(tmp_path: Path) -> None:
    """The bomb's own form is a workbook: it is refused for its size alone."""
    pytest.importorskip("python_calamine", reason="the excel extra is not installed")
    path = bombs.workbook_of_one_text(tmp_path / "t.xlsx", 40, 30)
    (batch,) = open_source(str(path)).batches()
    assert batch.table.num_rows == 39
    with pytest.raises(SourceError, match="more than 1000"):
        open_source(str(path), max_bytes=100)


@pytest.mark.parametrize("folder", [False, True])
def test_rows_of_parquet_are_capped_wherever_the_file_lies(tmp_path: Path, folder: bool) -> None:
    path = bombs.parquet_of_a_large_cell(tmp_path / "t.parquet", 2000)
    (batch,) = open_source(str(tmp_path if folder else path), max_bytes=1000).batches()
    assert batch.numbers == [1, 3]
    assert [(bad.number, "more than the 1000" in bad.reason) for bad in batch.malformed] == [(2, True)]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_source_that_unfolds_is_read_in_bounded_memory(tmp_path: Path, name: str) -> None:
    if name.endswith(".xlsx"):
        pytest.importorskip("python_calamine", reason="the excel extra is not installed")
    make, expected = BOMBS[name]
    path = make(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", MEMORY_OF, str(path)], capture_output=True, text=True, check=True)
    growth, said = done.stdout.split("\n")[:2]
    assert said.startswith(expected), said
    assert int(growth) < 450, f"{growth} MB for a file of {path.stat().st_size} bytes"


def test_many_columns_are_read(tmp_path: Path) -> None:
    """6,000 columns: minutes when each is compared with all others."""
    path = bombs.csv_of_columns(tmp_path / "t.csv", 6000)
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / name).write_bytes(encoded(smooth_image(len(name))))
    assert build(str(path), tmp_path / "ds", OPTIONS).kept == 2


@pytest.mark.parametrize("encoding", ["nonsense", "base64", "utf-8\0", "", "hex"])
def test_an_unknown_encoding_is_one_line(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_text("id,title\n1,a\n")
    with pytest.raises(SettingsError, match="is no text encoding"):
        open_source(str(tmp_path / "t.csv"), encoding=encoding)


def test_text_that_is_no_utf8_in_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"]).buffers())
    pq.write_table(pa.table({"title": broken}), tmp_path / "t.parquet")
    (batch,) = open_source(str(tmp_path / "t.parquet")).batches()
    assert batch.table["title"].to_pylist() == ["caf\ufffd"]


def test_a_json_file_of_gigabytes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phisight.data.sources.records.MAX_FILE_BYTES", 10)
    (tmp_path / "t.json").write_text('{"rows": [{"title": "a"}]}')
    with pytest.raises(SourceError, match=r"save it as \.jsonl"):
        open_source(str(tmp_path / "t.json"))


def test_file_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "hats"
    folder.mkdir(parents=True)
    for name in (b"good.jpg", b"caf\xe9.jpg"):
        try:
            (folder / os.fsdecode(name)).write_bytes(encoded(smooth_image(len(name))))
        except OSError:
            pytest.skip("this file system holds UTF-8 names only")
    (batch,) = open_source(str(tmp_path / "shop")).batches()
    assert batch.table["path"].to_pylist() == ["hats/caf%E9.jpg", "hats/good.jpg"]
    assert build(str(tmp_path / "shop"), tmp_path / "ds").kept == 2


def test_a_lone_surrogate_never_ends_a_build(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(encoded(smooth_image(1)))
    lines = [
        '{"id": "a", "title": "\\ud83d hat", "image": "0.jpg"}',
        '{"id": "\\udc00", "title": "b", "image": "0.jpg"}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    result = build(str(tmp_path / "t.jsonl"), tmp_path / "ds", OPTIONS)
    assert result.kept + result.rejected.total() == 2
