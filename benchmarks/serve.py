"""A server under load: nothing lost or wrong, throughput against one client and ``extract_many``, memory, fairness.

    python benchmarks/serve.py --model RUN [--clients 32] [--seconds 60] [--memory-minutes 0] [--json FILE]

The server is the command, in a process of its own; clients are connections of this process, each with a key of its own.
Sent are drawn products as data URLs to /v1/extract. One client at a time, ``extract_many`` (in a process of its own)
and all clients together take turns in one run, on the same images. An answer is wrong where a
field differs from that of ``extract`` alone, although the two best tokens there lie more than 1e-3 apart.

Fairness: one client sends 50 requests for long free answers at once; another asks one short question after the other,
before and meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

MARGIN = 1e-3
ALONE = """
import json, sys, time
import torch
torch.set_num_threads(int(sys.argv[2]))
from phisight.generate.decoding.sampling import Decoding
from phisight.generate.prepare import Preparer
from phisight.generate.requests import Request
from phisight.generate.scheduler import Scheduler
from phisight.workflows.extract import load_extractor
from pathlib import Path
files = json.load(sys.stdin)
extractor = load_extractor(sys.argv[1])
engine = extractor.engine
list(extractor.extract_many(files[:8]))
start = time.perf_counter()
answers = list(extractor.extract_many(files * int(sys.argv[3]), batch_size=16, workers=2))
seconds = (time.perf_counter() - start) / int(sys.argv[3])
preparer, found = Preparer(engine.processor), []
scheduler = Scheduler(engine.model, engine.processor, max_sequences=1, numbers=engine.numbers)
for index, file in enumerate(files):
    one = preparer(index, Request(extractor.task.prompt, [Path(file)]))
    one.decoding = Decoding(engine.max_new_tokens, engine.grammar, top_logprobs=2)
    done = scheduler.join([one])
    while not done:
        done = scheduler.step()
    (answer,) = done
    margins = [pair[0][1] - pair[1][1] for pair in answer.alternatives]
    fields = dict(extractor.reader.read(answer))
    pieces = [len(piece) for piece in answer.pieces]
    found.append({"fields": fields, "written": answer.written, "pieces": pieces, "margins": margins})
json.dump({"seconds": seconds, "answers": found}, sys.stdout)
"""


@contextmanager
def serving(model: Path, keys: list[str]) -> Iterator[tuple[str, int]]:
    """Address and process id of a server."""
    environment = {**os.environ, "PHISIGHT_API_KEY": ",".join(keys), "COLUMNS": "200"}
    environment.pop("OMP_NUM_THREADS", None)  # the server leaves a core by itself
    command = [sys.executable, "-m", "phisight", "serve", str(model), "--port", "0", "--max-tokens", "200"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the server did not start: {line!r}"
        yield found[0], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        assert code == 0, f"the server ended with {code}"


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    words = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Client:
    """Asks about images, one after the other."""

    def __init__(self, url: str, key: str, bodies: list[bytes]) -> None:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        limit = aiohttp.ClientTimeout(total=120)
        self._http = aiohttp.ClientSession(url, headers=headers, timeout=limit)
        self._bodies = bodies
        self.seconds: list[float] = []
        self.answers: list[tuple[int, Any]] = []
        self.lost = 0

    async def ask(self, image: int) -> None:
        """One request."""
        begin = time.perf_counter()
        try:
            async with self._http.post("/v1/extract", data=self._bodies[image], raise_for_status=True) as response:
                self.answers.append((image, await response.json()))
            self.seconds.append(time.perf_counter() - begin)
        except (aiohttp.ClientError, TimeoutError):
            self.lost += 1

    async def ask_long(self) -> None:
        """A long free answer."""
        async with self._http.get("/v1/models") as response:
            name = (await response.json())["data"][0]["id"]
        body = {"model": name, "messages": [{"role": "user", "content": "Tell me all about it."}]}
        sampled = {"max_tokens": 200, "temperature": 2, "seed": 1}
        async with self._http.post("/v1/chat/completions", json={**body, **sampled}) as response:
            await response.read()

    async def until(self, end: float, first: int) -> None:
        """Requests until a time."""
        image = first
        while time.perf_counter() < end:
            await self.ask(image % len(self._bodies))
            image += 1

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()


async def load(url: str, keys: list[str], bodies: list[bytes], seconds: float) -> list[Client]:
    """Clients that ask at once for a while."""
    clients = [Client(url, key, bodies) for key in keys]
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client.until(end, 7 * number) for number, client in enumerate(clients)))
    await asyncio.gather(*(client.close() for client in clients))
    return clients


async def fairness(url: str, keys: list[str], bodies: list[bytes], asked: int) -> tuple[float, float]:
    """Median seconds of a client's short requests alone, and while another one's 50 long ones run."""
    medians = []
    for heavy in (0, 50):
        other, mine = Client(url, keys[0], bodies), Client(url, keys[1], bodies)
        running = [asyncio.ensure_future(other.ask_long()) for _ in range(heavy)]
        await asyncio.sleep(0.5 if heavy else 0)
        for image in range(asked):
            await mine.ask(image % len(bodies))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        medians.append(statistics.median(mine.seconds))
        await other.close()
        await mine.close()
    return medians[0], medians[1]


def wrong(image: int, answer: Any, alone: list[Any]) -> bool:
    """Whether an answer is another than that of ``extract`` alone, by more than a near tie of two tokens."""
    expected = alone[image]
    if answer["fields"] == (expected["fields"] or None):
        return False
    one, two = answer["text"].encode(), expected["written"].encode()
    common = next(
        (n for n, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), min(len(one), len(two))
    )
    reached = 0
    for length, margin in zip(expected["pieces"], expected["margins"], strict=True):
        reached += length
        if reached > common:
            return bool(margin > MARGIN)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a trained run or an export")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-minutes", type=float, default=0, help="load that goes on, to see memory grow")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    from phisight.sample.catalogue.presets import preset
    from phisight.sample.draw_catalogue import make

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        make(asked.images, Path(folder) / "data", seed=1, settings=preset("demo"), workers=1)
        files = sorted(str(path) for path in (Path(folder) / "data" / "images").rglob("*.*"))
        urls = [f"data:image/jpeg;base64,{base64.b64encode(Path(file).read_bytes()).decode()}" for file in files]
        bodies = [json.dumps({"images": [url]}).encode() for url in urls]
        command = [sys.executable, "-c", ALONE, str(asked.model), str(asked.threads), "4"]
        done = subprocess.run(command, input=json.dumps(files), stdout=subprocess.PIPE, text=True, check=True)
        alone = json.loads(done.stdout.splitlines()[-1])
        many = len(files) / alone["seconds"]
        keys = [f"client-key-{number:04d}" for number in range(max(2, asked.clients))]
        with serving(asked.model, keys) as (url, pid):
            asyncio.run(load(url, keys[:4], bodies, 3))
            one = asyncio.run(load(url, keys[:1], bodies, asked.seconds / 3))
            every = asyncio.run(load(url, keys[: asked.clients], bodies, asked.seconds))
            early = resident_mb(pid)
            figures["quiet_s"], figures["beside_s"] = asyncio.run(fairness(url, keys, bodies, 20))
            if asked.memory_minutes:
                asyncio.run(load(url, keys[: asked.clients], bodies, 60 * asked.memory_minutes))
            late = resident_mb(pid)
    answers = [pair for client in every for pair in client.answers]
    seconds = sorted(value for client in every for value in client.seconds)
    single = len(one[0].seconds) / sum(one[0].seconds)
    figures |= {
        "answers": len(answers),
        "lost": sum(client.lost for client in every),
        "wrong": sum(wrong(image, answer, alone["answers"]) for image, answer in answers),
        "one_client_per_s": single,
        "all_clients_per_s": len(answers) / asked.seconds,
        "extract_many_per_s": many,
        "median_s": statistics.median(seconds),
        "p95_s": seconds[int(0.95 * len(seconds))],
        "memory_mb": [early, late],
    }
    judge(figures, asked.clients)
    if asked.json:
        asked.json.write_text(json.dumps({**vars(asked), **figures}, indent=2, default=str) + "\n", encoding="utf-8")


def judge(figures: dict[str, Any], clients: int) -> None:
    """Figures beside their targets."""
    rate = figures["all_clients_per_s"]
    rows = [
        (f"lost of {figures['answers']} answers", figures["lost"], figures["lost"] == 0, "0"),
        ("wrong", figures["wrong"], figures["wrong"] == 0, "0"),
        (
            f"{clients} clients / one",
            rate / figures["one_client_per_s"],
            rate >= 3 * figures["one_client_per_s"],
            ">= 3",
        ),
        (
            f"{clients} clients / extract_many",
            rate / figures["extract_many_per_s"],
            rate >= 0.7 * figures["extract_many_per_s"],
            ">= 0.7",
        ),
        ("p95 / median", figures["p95_s"] / figures["median_s"], figures["p95_s"] < 5 * figures["median_s"], "< 5"),
        (
            "memory at the end / before",
            figures["memory_mb"][1] / figures["memory_mb"][0],
            True,
            "(1.05 from minute 2 to 10)",
        ),
        (
            "median beside 50 long requests / alone",
            figures["beside_s"] / figures["quiet_s"],
            figures["beside_s"] <= 2 * figures["quiet_s"],
            "<= 2",
        ),
    ]
    for name, value, reached, target in rows:
        print(f"{name}: {value:.3g}, target {target}: {'reached' if reached else 'MISSED'}")
    names = ("one_client_per_s", "all_clients_per_s", "extract_many_per_s", "median_s", "p95_s")
    print(", ".join(f"{name} {figures[name]:.3g}" for name in names))


if __name__ == "__main__":
    main()
