"""Worker processes: whatever order things end in, the parent hears of it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phisight.core.errors import DataError, StorageError
from phisight.data.build.work.image_store import ImageStore
from phisight.data.build.work.pool import WorkerPool, download
from phisight.data.build.work.worklog import STORED, WORKSPACE, Entry, log_line, log_path, read_log
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job
from phisight.data.images.decode import ImageLimits
from tests.helpers.images import encoded, smooth_image

pytestmark = pytest.mark.process

LIMITS = FetchLimits(allow_private=True)


def store(folder: Path) -> ImageStore:
    (folder / WORKSPACE).mkdir()
    return ImageStore(folder, ImageLimits())


def jobs(count: int) -> Iterator[Job]:
    return (Job(f"body:{n}", body=encoded(smooth_image(n, (40, 40)))) for n in range(count))


@pytest.mark.parametrize("processes", [1, 3])
def test_every_job_is_settled_once(tmp_path: Path, processes: int) -> None:
    entries: list[Entry] = []
    download(jobs(300), store(tmp_path), entries.extend, LIMITS, processes)
    assert sorted(token for token, _, _ in entries) == sorted(f"body:{n}" for n in range(300))
    assert {kind for _, kind, _ in entries} == {STORED}
    assert len(list((tmp_path / "images").rglob("*.jpg"))) == 300


def test_a_worker_that_dies_is_an_error_and_leaves_nobody_behind(tmp_path: Path) -> None:
    with WorkerPool(2) as pool:

        def kill_one(_: object) -> None:
            with contextlib.suppress(ProcessLookupError):  # called once more before the death is noticed
                os.kill(pool.processes[0].pid or 0, signal.SIGKILL)

        with pytest.raises(DataError, match="a worker process died"):
            pool.run(jobs(3000), store(tmp_path), kill_one, LIMITS)
    assert [process.exitcode for process in pool.processes] == [-signal.SIGKILL, 0]


def test_an_error_that_stops_a_worker_is_raised_here(tmp_path: Path) -> None:
    folder = store(tmp_path)
    (tmp_path / "images").write_text("a file where the images should be")
    with pytest.raises(StorageError, match="cannot be written"):
        download(jobs(900), folder, lambda _: None, LIMITS, 2)


def test_a_pool_that_is_never_used_ends() -> None:
    with WorkerPool(2) as pool:
        pass
    assert [process.exitcode for process in pool.processes] == [0, 0]


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / WORKSPACE).mkdir()
    path = log_path(tmp_path, 7)
    whole = log_line(("url:1", "not_found", "status 404"))
    path.write_bytes(whole + whole[:-1])
    assert list(read_log(path)) == [("url:1", "not_found", "status 404")]


def test_workers_start_without_what_they_do_not_need() -> None:
    heavy = {"pyarrow", "pydantic", "pandas", "sqlite3"}
    script = f"import sys, phisight.data.build.work.worker; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_the_process_that_forks_has_one_thread() -> None:
    """Forking a process with several threads may leave a lock held for ever; Python 3.12 and later warn of it."""
    script = (
        "from phisight.data.build.work.pool import WorkerPool\n"
        "from pathlib import Path\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(1) as pool:\n"
        "        pool.started()\n"
        "        server = Path(f'/proc/{pool.processes[0].pid}/stat').read_text().rpartition(')')[2].split()[1]\n"
        "        print(len(os.listdir(f'/proc/{server}/task')), server != str(os.getpid()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"]
