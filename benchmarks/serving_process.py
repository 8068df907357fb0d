"""A server in a process of its own, its memory, and drawn products to ask it about; for the benchmarks of serving."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(model: Path, keys: Sequence[str] = (), *options: str) -> Iterator[tuple[str, int]]:
    """Address and process id of ``phisight serve``; it has to end in peace.

    Raises:
        RuntimeError: It did not start, or did not end with 0 within a minute of SIGTERM.
    """
    environment = {**os.environ, "PHISIGHT_API_KEY": ",".join(keys), "COLUMNS": "200"}
    environment.pop("OMP_NUM_THREADS", None)  # the server leaves a core by itself
    command = [sys.executable, "-m", "phisight", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            raise RuntimeError(f"the server did not start: {line!r}")
        yield found[0], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(60)
        finally:
            process.kill()
            process.stdout.close()
    if code:
        raise RuntimeError(f"the server ended with {code}")


def family(pid: int) -> list[int]:
    """A process and what descends from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all that descend from it, in MB; pages they share count for each."""
    pages = 0
    for one in family(pid):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text(encoding="utf-8").split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def drawn(count: int, folder: Path) -> list[Path]:
    """Files of so many drawn products."""
    from phisight.sample.catalogue.presets import preset
    from phisight.sample.draw_catalogue import make

    make(count, folder / "data", seed=1, settings=preset("demo"), workers=1)
    return sorted((folder / "data" / "images").rglob("*.*"))


def as_data_url(file: Path) -> str:
    """A JPEG file as a data URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"
