"""Requests made from the OpenAPI document against a server: no answer is a 500, nothing grows, nothing hangs.

    python benchmarks/serve_fuzz.py --model RUN --schemathesis PROGRAM [--examples 1000] [--seed 0]

PROGRAM is the command of schemathesis in an environment of its own. It makes valid and invalid requests for each
operation of the document. Afterwards the server answers a request about an image, and ends in peace.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

GROWTH = 0.05


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    words = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a trained run or an export")
    parser.add_argument("--schemathesis", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=1000, help="for each operation")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    from phisight.sample.catalogue.presets import preset
    from phisight.sample.draw_catalogue import make

    command = [sys.executable, "-m", "phisight", "serve", str(asked.model), "--port", "0", "--max-tokens", "32"]
    environment = {**os.environ, "COLUMNS": "200"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    found = re.search(r"http://\S+", server.stdout.readline())
    assert found, "the server did not start"
    url = found[0]
    options = ["--checks", "not_a_server_error", "--phases", "fuzzing", "--generation-database", "none"]
    options += ["--max-examples", str(asked.examples), "--seed", str(asked.seed), "--request-timeout", "60"]
    begin = time.perf_counter()
    warm = [*options[:-6], "--max-examples", "20", "--seed", "1"]
    subprocess.run([asked.schemathesis, "run", f"{url}/openapi.json", *warm], check=False, stdout=subprocess.DEVNULL)
    before = resident_mb(server.pid)
    done = subprocess.run([asked.schemathesis, "run", f"{url}/openapi.json", *options], check=False)
    after = resident_mb(server.pid)
    with tempfile.TemporaryDirectory() as folder:
        make(1, Path(folder) / "data", seed=1, settings=preset("demo"), workers=1)
        (file,) = (Path(folder) / "data" / "images").rglob("*.*")
        image = f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"
    answer = httpx.post(f"{url}/v1/extract", json={"images": [image]}, timeout=60)
    counts = re.findall(
        r'phisight_answers_total\{path="[^"]*",status="(\d+)"\} (\d+)', httpx.get(f"{url}/metrics").text
    )
    server.send_signal(signal.SIGTERM)
    code = server.wait(60)
    total = sum(int(count) for _, count in counts)
    broken = sum(int(count) for status, count in counts if status.startswith("5"))
    print(f"{total} requests in {time.perf_counter() - begin:.0f} s, {broken} with a status of 500 or more")
    print(f"memory {before:.0f} MB, then {after:.0f} MB ({after / before - 1:+.1%})")
    if done.returncode or broken or answer.status_code != 200 or code or after > before * (1 + GROWTH):
        raise SystemExit(f"schemathesis {done.returncode}, an answer afterwards {answer.status_code}, exit code {code}")


if __name__ == "__main__":
    main()
