"""What the system refuses is one line: memory however a library says it, places that cannot be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phisight import cli
from phisight.cli.screen import refused_by_the_system

NO_MEMORY: list[BaseException] = [
    MemoryError(), MemoryError("Unable to allocate 9 GiB"), OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("could not create a primitive"), RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: "
    "can't allocate memory: you tried to allocate 8 bytes"), RuntimeError("can't start new thread"),
    RuntimeError("std::bad_alloc"), ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    OSError("libx.so: failed to map segment from shared object"), RuntimeError("unable to mmap 99 bytes from file"),
]  # fmt: skip


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_no_memory_is_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no more memory" in said_by_the_command(error, monkeypatch, capsys)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT])
def test_a_place_that_cannot_be_written_is_one_line(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(code, os.strerror(code), "archive/run")
    said = said_by_the_command(error, monkeypatch, capsys)
    assert f"archive/run: {os.strerror(code)}; " in said


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError(errno.EPIPE, "Broken pipe"), KeyError("a")])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_by_the_system(error) is None
    with pytest.raises(type(error)):
        run(error, monkeypatch)


def run(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", raising)
    monkeypatch.setattr("sys.argv", ["phisight", "train", "recipe.yaml"])
    cli.main()


def said_by_the_command(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    with pytest.raises(SystemExit) as ended:
        run(error, monkeypatch)
    assert ended.value.code == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.strip()]
    assert line.startswith("error: ")
    return line


@pytest.mark.process
def test_a_build_under_a_limit_of_memory_is_one_line(tmp_path: Path) -> None:
    """As ``ulimit -v`` sets it, over what the program holds after its start."""
    (tmp_path / "t.json").write_text('[{"title": "' + "x" * 200_000_000 + '"}]')
    script = (
        "import resource, sys\n"
        "import phisight.cli, phisight.data.build.build_dataset, phisight.data.sources.layouts.open\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 300_000_000, held + 300_000_000))\n"
        f"sys.argv = ['phisight', 'data', 'build', {str(tmp_path / 't.json')!r}, '--max-bytes', '400000000', "
        f"'--out', {str(tmp_path / 'ds')!r}]\n"
        "phisight.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no more memory" in done.stderr
