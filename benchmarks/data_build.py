"""Building a data set from addresses: phisight, img2dataset and a serial loop, in one run against one server.

    python benchmarks/data_build.py --img2dataset ENV/bin/python

Images are JPEGs of about 80 kB from a server process on loopback that answers 50 ms late. img2dataset needs
pandas < 3, hence an environment of its own (`python -m venv ENV && ENV/bin/pip install img2dataset`). Every contender
gets the whole list, the serial loop its first part; rates are images by wall clock, start of the program included.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
TIME_LIMIT_S = 10
FAULTS = ["404"] * 10 + ["flaky"] * 4 + ["truncated"] * 2 + ["slow"] * 2 + ["html", "bomb"]
FAULTS += ["redirect"] * 2 + ["gzip"] * 2
"""Of 200 images: 5 % 404, 2 % 500-then-fine, 1 % truncated and slow-loris each, 0.5 % HTML and bombs each; the rest
are redirects and gzip bodies, which a good client takes in its stride."""
LOST_FOR_GOOD = {
    "404": "not_found", "truncated": "incomplete", "slow": "timeout", "html": "html", "bomb": "too_many_pixels",
}  # fmt: skip

IMG2DATASET = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], output_folder=sys.argv[2], output_format="files", resize_mode="no",
             input_format="txt", processes_count=int(sys.argv[3]), thread_count=32,
             number_sample_per_shard=1000, timeout=10, retries=0)
"""


def draw_images(folder: Path, count: int, side: int = 512) -> float:
    """JPEGs of coloured noise, ``side`` pixels square; their mean size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    grain = np.random.default_rng(0).normal(0, 12, (700, 700, 3)).astype(np.float32)
    for seed in range(count):
        path = folder / f"{seed:05d}.jpg"
        if not path.exists():
            coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
            smooth = np.asarray(
                Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32
            )
            top, left = seed % 180, seed * 7 % 180
            noisy = np.clip(smooth + grain[top : top + side, left : left + side], 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(path, "JPEG", quality=87)
    return statistics.mean(path.stat().st_size for path in folder.glob("*.jpg"))


@contextmanager
def serving(folder: Path, latency: float) -> Iterator[str]:
    """The image server in a process of its own; its address."""
    command = [sys.executable, "-m", "tests.helpers.image_server", str(folder), "--latency", str(latency)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Usage(threading.Thread):
    """Peak memory (shared pages counted once) and processor time of a process and its children, sampled."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_mb = pid, 0.0
        self._seconds: dict[int, float] = {}

    @property
    def cpu_s(self) -> float:
        return sum(self._seconds.values())

    def run(self) -> None:
        while (total := sum(map(proportional_kb, pids := family(self.pid)))) > 0:
            self.peak_mb = max(self.peak_mb, total / 1024)
            self._seconds.update({pid: seconds for pid in pids if (seconds := processor_seconds(pid))})
            time.sleep(0.1)


def family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def proportional_kb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(text.split("Pss:")[1].split()[0])


def processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Run(NamedTuple):
    """What a program took; exit code 124: it was stopped at the time limit."""

    seconds: float
    cpu_s: float
    peak_mb: float
    code: int


def run(command: list[str], timeout: float) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    usage = Usage(process.pid)
    usage.start()
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        for pid in reversed(family(process.pid)):
            os.kill(pid, 9)
        process.wait()
        code = 124
    seconds = time.perf_counter() - start
    usage.join(1)
    return Run(seconds, usage.cpu_s, usage.peak_mb, code)


def serial_rate(urls: list[str]) -> float:
    """The loop of the original study: one request after the other, each image decoded."""
    start = time.perf_counter()
    for url in urls:
        with urllib.request.urlopen(url) as response:
            Image.open(io.BytesIO(response.read())).convert("RGB").load()
    return len(urls) / (time.perf_counter() - start)


def fresh(folder: Path) -> Path:
    """A new folder for every run. Old ones stay till the end: creating files is three times slower on ext4 for minutes
    after others were deleted, which would be charged to whoever comes next."""
    return Path(tempfile.mkdtemp(dir=folder))


def phisight_build(urls: list[str], folder: Path) -> tuple[Run, Path]:
    """What it took, and the data set."""
    table = folder / "list.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "title", "image_url"])
        writer.writerows([f"{n}", f"T{n}", url] for n, url in enumerate(urls))
    out = fresh(folder)
    command = [sys.executable, "-m", "phisight", "data", "build", str(table), "--out", str(out)]
    # As many connections as img2dataset has: two processes of 32 threads.
    connections = ["--per-host", "64"]
    return run([*command, "--allow-private", "--time-limit", str(TIME_LIMIT_S), *connections], 600), out


def img2dataset_run(python: str, urls: list[str], folder: Path, timeout: float) -> tuple[Run, int]:
    """What it took, and the images that were got."""
    (folder / "list.txt").write_text("\n".join(urls))
    (folder / "run.py").write_text(IMG2DATASET)
    out = fresh(folder)
    taken = run(
        [python, *(str(path) for path in (folder / "run.py", folder / "list.txt", out)), str(os.cpu_count())], timeout
    )
    return taken, len(list(out.rglob("*.jpg")))


def faulty(urls: list[str]) -> tuple[list[str], Counter[str]]:
    """The list with its share of faults, spread evenly; and how many rows each reject kind should have."""
    places = {at * (200 // len(FAULTS)): kind for at, kind in enumerate(FAULTS)}
    kinds = [places.get(n % 200, "ok") for n in range(len(urls))]
    rejects = Counter(LOST_FOR_GOOD[kind] for kind in kinds if kind in LOST_FOR_GOOD)
    return [url.replace("/ok/", f"/{kind}/") for url, kind in zip(urls, kinds, strict=True)], rejects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--img2dataset", help="Python of an environment with img2dataset.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--long",
        type=int,
        nargs="*",
        default=[],
        help="Also lists of so many addresses of small images, for the memory.",
    )
    parser.add_argument(
        "--work", type=Path, help="Folder for what is built (default: the system's for temporary files)."
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "phisight-benchmark-images")
    options = parser.parse_args()
    mean = draw_images(options.cache, options.images)
    print(f"{options.images} JPEGs, mean {mean / 1000:.0f} kB, latency {options.latency * 1000:.0f} ms")
    with (
        tempfile.TemporaryDirectory(dir=options.work) as name,
        serving(options.cache, options.latency) as address,
    ):
        measure(options, Path(name), [f"{address}/ok/{n}" for n in range(options.images)])
    measure_memory(options.long, options.cache.with_name(options.cache.name + "-small"), options.work)


def measure(options: argparse.Namespace, folder: Path, urls: list[str]) -> None:
    count = len(urls)
    for number in range(options.rounds):
        serial = serial_rate(urls[:100])
        taken, _ = phisight_build(urls, folder)
        assert taken.code == 0, "the build failed"
        ours = count / taken.seconds
        line = f"round {number + 1}: serial {serial:.1f}/s"
        line += f"  phisight {ours:.0f}/s ({ours / serial:.1f} x serial, {describe(taken, count)})"
        if options.img2dataset:
            theirs, got = img2dataset_run(options.img2dataset, urls, folder, 600)
            assert (theirs.code, got) == (0, count)
            rate = count / theirs.seconds
            line += (
                f"  img2dataset {rate:.0f}/s ({describe(theirs, count)}): phisight is {ours / rate:.2f} x img2dataset"
            )
        print(line, flush=True)
    report_faults(options, folder, urls, taken.seconds)


def measure_memory(lengths: list[int], cache: Path, work: Path | None) -> None:
    """Peak memory by the length of the list; small images, each under many addresses, so that it takes minutes."""
    draw_images(cache, 500, side=64)
    with tempfile.TemporaryDirectory(dir=work) as name, serving(cache, 0.0) as address:
        for length in lengths:
            taken, _ = phisight_build([f"{address}/ok/{n}" for n in range(length)], Path(name))
            assert taken.code == 0, "the build failed"
            print(f"{length} addresses: {length / taken.seconds:.0f}/s, {describe(taken, length)}", flush=True)


def describe(taken: Run, count: int) -> str:
    return f"{taken.cpu_s / count * 1000:.1f} ms of processor an image, {taken.peak_mb:.0f} MB"


def report_faults(options: argparse.Namespace, folder: Path, urls: list[str], undisturbed: float) -> None:
    mixed, expected = faulty(urls)
    taken, out = phisight_build(mixed, folder)
    assert taken.code == 0
    lines = (out / "rejects.jsonl").read_text().splitlines()
    found = Counter(json.loads(line)["kind"] for line in lines)
    assert found == expected, f"{found} != {expected}"
    bound = 1.3 * undisturbed + TIME_LIMIT_S
    print(f"fault mix: phisight {taken.seconds:.1f} s (undisturbed {undisturbed:.1f} s; bound {bound:.1f} s)")
    print(f"  kept {len(urls) - len(lines)}, rejected {dict(found)}: all that can be had is had")
    if options.img2dataset:
        limit = max(60.0, 4 * bound)
        theirs, got = img2dataset_run(options.img2dataset, mixed, folder, limit)
        ending = "ended" if theirs.code != 124 else "had not ended"
        ending += f" after {theirs.seconds:.0f} s"
        print(f"  img2dataset {ending} with {got} of {len(urls) - len(lines)} images")


if __name__ == "__main__":
    main()
