"""What a build may cost: small files that ask for minutes or gigabytes are named in seconds and some hundred MB."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from phisight.core.errors import SettingsError, SourceError
from phisight.data.build.build_dataset import build
from phisight.data.images.decode import ImageLimits, prepare_image
from phisight.data.images.decode_cost import MOST_DIRECTORIES, MOST_SCANS, TimedBytes, is_expensive
from phisight.data.images.rejection import Rejection
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


def test_what_is_expensive_is_told_from_the_header() -> None:
    assert not is_expensive(encoded(smooth_image(0, (900, 900)), "JPEG"))
    assert not is_expensive(encoded(smooth_image(0, (900, 900)), "PNG"))
    assert is_expensive(encoded(smooth_image(0, (3000, 2000)), "JPEG"))
    assert is_expensive(encoded(smooth_image(0, (1500, 1500)), "JPEG", progressive=True))
    assert is_expensive(encoded(smooth_image(0, (90, 90)), "TIFF"))


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
    "members.tar": (lambda path: bombs.tar_of_large_members(path, 2, 100_000_000), "1 2"),
    "header.tar": (lambda path: bombs.tar_of_a_large_header(path, 200_000_000), "SourceError"),
    "row.jsonl": (lambda path: bombs.jsonl_of_a_large_row(path, 150_000_000), "2 1"),
    "row.csv": (lambda path: bombs.csv_of_a_large_row(path, 150_000_000), "2 1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_source_that_unfolds_is_read_in_bounded_memory(tmp_path: Path, name: str) -> None:
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
    (tmp_path / "t.json").write_text('[{"title": "a"}]')
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
