"""Builds that are interrupted, doubled or cannot write: the same command continues, and one line says why."""

import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from phisight.core.errors import DatasetError, StorageError
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from tests.helpers.image_server import ImageServer
from tests.helpers.images import write_images
from tests.helpers.url_list import OPTIONS, TASK, folder_bytes, write_list

pytestmark = pytest.mark.process

KILLED_AT = """
import os, pathlib, shutil, sys
table, out, count, name = sys.argv[1:]
left, whole, remove = int(count), pathlib.Path.replace, shutil.rmtree

def replace(self, target):
    global left
    if pathlib.Path(target).name == name:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
    return whole(self, target)

def rmtree(path, *args, **options):
    if name == "rmtree":
        (pathlib.Path(path) / "journal.sqlite").unlink()
        os.kill(os.getpid(), 9)
    return remove(path, *args, **options)

pathlib.Path.replace, shutil.rmtree = replace, rmtree
from phisight.data.build.build_dataset import build
from tests.helpers.url_list import OPTIONS

build(table, out, OPTIONS)
"""


def local_list(folder: Path, count: int = 8) -> Path:
    folder.mkdir()
    return write_list(folder / "t.csv", write_images(folder, count))


@pytest.mark.parametrize("name", ["rejects.jsonl", "metadata.parquet", "dataset.json", "rmtree"])
def test_a_kill_while_a_build_finishes_loses_nothing(tmp_path: Path, name: str) -> None:
    table, out = local_list(tmp_path / "shop"), tmp_path / "ds"
    command = [sys.executable, "-c", KILLED_AT, str(table), str(out), "1", name]
    killed = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if name == "rmtree":
        assert len(DatasetFolder.open(out)) == 8, "everything is in place"
    else:
        with pytest.raises(DatasetError, match="is not finished"):
            DatasetFolder.open(out)
    build(str(table), out, OPTIONS)
    build(str(table), tmp_path / "undisturbed", OPTIONS)
    assert folder_bytes(out) == folder_bytes(tmp_path / "undisturbed")


def test_a_second_build_in_the_same_folder_is_refused_and_the_first_goes_on(
    server: ImageServer, tmp_path: Path
) -> None:
    server.latency_s = 1.0
    table = write_list(tmp_path / "t.csv", [f"{server.url}/ok/{n}" for n in range(4)])
    first = threading.Thread(target=build, args=(str(table), tmp_path / "ds", OPTIONS))
    first.start()
    while not (tmp_path / "ds" / ".build" / "journal.sqlite").exists():
        assert first.is_alive()
    with pytest.raises(DatasetError, match="in use by another build"):
        build(str(table), tmp_path / "ds", OPTIONS)
    first.join()
    assert len(DatasetFolder.open(tmp_path / "ds")) == 4


def test_a_journal_of_an_earlier_phisight_is_continued(tmp_path: Path) -> None:
    import sqlite3

    table, out = local_list(tmp_path / "shop", 3), tmp_path / "ds"
    (out / ".build").mkdir(parents=True)
    with sqlite3.connect(out / ".build" / "journal.sqlite") as old:
        old.execute(
            "CREATE TABLE images (token TEXT PRIMARY KEY, kind TEXT NOT NULL, outcome TEXT NOT NULL) WITHOUT ROWID"
        )
        old.execute("INSERT INTO images VALUES ('url:1', 'not_found', 'status 404')")
    old.close()
    assert build(str(table), out, OPTIONS).kept == 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_one_line(tmp_path: Path, processes: int) -> None:
    table = local_list(tmp_path / "shop", 4)
    code = (
        "from phisight.cli import main\n"
        "import sys\n"
        "if __name__ == '__main__':\n"
        f"    sys.argv = ['phisight', 'data', 'build', {str(table)!r}, '--out', {str(tmp_path / 'ds')!r}, "
        f"'--field', 'title:text', '--processes', '{processes}']\n"
        "    main()\n"
    )
    (tmp_path / "run.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("place", ["/proc/phisight", "/sys/phisight"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, place: str) -> None:
    if not Path(place).parent.is_dir():
        pytest.skip(f"no {Path(place).parent} here")
    table = local_list(tmp_path / "shop", 2)
    with pytest.raises(StorageError, match="cannot be written"):
        build(str(table), Path(place), OPTIONS)


@pytest.mark.parametrize("by", ["address", "file"])
def test_a_stored_image_with_one_flipped_byte_is_healed(server: ImageServer, tmp_path: Path, by: str) -> None:
    if by == "file":
        table = local_list(tmp_path / "shop")
    else:
        table = write_list(tmp_path / "t.csv", [f"{server.url}/ok/{n}" for n in range(8)])
    options = BuildOptions(task=TASK, fetch=OPTIONS.fetch)
    build(str(table), tmp_path / "ds", options)
    whole = folder_bytes(tmp_path / "ds")
    image = next((tmp_path / "ds" / "images").rglob("*.jpg"))
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    build(str(table), tmp_path / "ds", options)
    assert folder_bytes(tmp_path / "ds") == whole
