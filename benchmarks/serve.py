"""A server under load: nothing lost or wrong, throughput against one client and ``extract_many``, memory, fairness.

    python benchmarks/serve.py --model RUN [--clients 32] [--seconds 60] [--minutes 10] [--json FILE]

The server is the command, in a process of its own; clients are connections of this process, each with a key of its own.
Sent are drawn products as data URLs to /v1/extract. ``extract_many`` (in a process of its own, idle otherwise), one
client at a time and all clients together take turns on the same images: shares are of one run. An answer is wrong
where a field differs from that of ``extract`` alone, although the two best tokens there lie more than 1e-3 apart.

Fairness: one client sends 50 requests for long free answers at once; another asks one short question after the other,
before and meanwhile. Memory: resident, of the server and its children, at minute 2 (or a fifth of ``--minutes``) and at
the end of a load of all clients; what is lost or wrong there counts, too. Ends with 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from serving_aims import load_aims, report
from serving_process import as_data_url, drawn, resident_mb, serving

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
def tell(value):
    print(json.dumps(value), flush=True)
files = json.loads(sys.stdin.readline())
extractor = load_extractor(sys.argv[1])
engine = extractor.engine
list(extractor.extract_many(files[:8]))
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
tell(found)
for _ in sys.stdin:
    start = time.perf_counter()
    answers = list(extractor.extract_many(files * 4, batch_size=16, workers=2))
    tell([len(answers), time.perf_counter() - start])
"""


class Alone:
    """The model without a server, in a process of its own.

    Attributes:
        answers: For each file what ``extract`` says of it, and how far apart the two best tokens were.
    """

    def __init__(self, model: Path, files: Sequence[Path], threads: int) -> None:
        command = [sys.executable, "-c", ALONE, str(model), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: list[dict[str, Any]] = self._asked(json.dumps([str(file) for file in files]))

    def many(self) -> tuple[int, float]:
        """Answers of ``extract_many``, and its seconds."""
        count, seconds = self._asked("many")
        return count, seconds

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _asked(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        for answer in self._process.stdout:
            if answer.startswith("["):
                return json.loads(answer)
        raise RuntimeError("the model alone ended")


class Client:
    """Asks about images, one after the other."""

    def __init__(self, url: str, key: str, bodies: list[bytes]) -> None:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        limit = aiohttp.ClientTimeout(total=120)
        self._http = aiohttp.ClientSession(url, headers=headers, timeout=limit)
        self._bodies = bodies
        self.key = key
        self.seconds: list[float] = []
        self.answers: list[tuple[int, Any]] = []
        self.lost: Counter[str] = Counter()
        """Requests without an answer, by their reason."""

    async def ask(self, image: int) -> None:
        """One request."""
        begin = time.perf_counter()
        try:
            async with self._http.post("/v1/extract", data=self._bodies[image], raise_for_status=True) as response:
                self.answers.append((image, await response.json()))
            self.seconds.append(time.perf_counter() - begin)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.lost[f"{type(error).__name__} {error}"[:100]] += 1

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


class Load:
    """What clients that ask at once for a while see."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.elapsed = 0.0

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return sum(len(client.answers) for client in self.clients) / self.elapsed

    async def run(self, url: str, keys: Sequence[str], bodies: list[bytes], seconds: float) -> None:
        """Ask."""
        clients = [Client(url, key, bodies) for key in keys]
        begin = time.perf_counter()
        await asyncio.gather(*(client.until(begin + seconds, 7 * number) for number, client in enumerate(clients)))
        self.elapsed += time.perf_counter() - begin
        self.clients += clients
        await asyncio.gather(*(client.close() for client in clients))


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


def wrong(image: int, answer: Any, alone: list[dict[str, Any]]) -> bool:
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


def measured(model: Path, alone: Alone, bodies: list[bytes], asked: argparse.Namespace) -> dict[str, Any]:
    """Figures of one server."""
    keys = [f"client-key-{number:04d}" for number in range(max(4, asked.clients))]
    warm, one, every, long = Load(), Load(), Load(), Load()
    many: list[tuple[int, float]] = []
    figures: dict[str, Any] = {}
    with serving(model, keys, "--max-tokens", "200") as (url, pid):
        asyncio.run(warm.run(url, keys[:4], bodies, 3))
        for _ in range(asked.turns):
            many.append(alone.many())
            asyncio.run(one.run(url, keys[:1], bodies, asked.seconds / asked.turns / 3))
            asyncio.run(every.run(url, keys[: asked.clients], bodies, asked.seconds / asked.turns))
        figures["quiet_s"], figures["beside_s"] = asyncio.run(fairness(url, keys, bodies, 20))
        early = min(2.0, asked.minutes / 5)
        figures["memory_minutes"], figures["memory_mb"] = [early, asked.minutes], []
        for minutes in (early, asked.minutes - early):
            asyncio.run(long.run(url, keys[: asked.clients], bodies, 60 * minutes))
            figures["memory_mb"].append(resident_mb(pid))
    clients = warm.clients + one.clients + every.clients + long.clients
    seconds = sorted(value for client in every.clients for value in client.seconds)
    return figures | by_client(clients, alone.answers) | {
        "one_client_per_s": one.per_s,
        "all_clients_per_s": every.per_s,
        "long_load_per_s": long.per_s,
        "extract_many_per_s": sum(count for count, _ in many) / sum(value for _, value in many),
        "median_s": statistics.median(seconds),
        "p95_s": seconds[int(0.95 * len(seconds))],
    }  # fmt: skip


def by_client(clients: Sequence[Client], alone: list[dict[str, Any]]) -> dict[str, Any]:
    """Answers, what is lost or wrong, and for each client that has such: how many, why."""
    troubles: dict[str, Counter[str]] = {}
    answers, lost, bad = 0, 0, 0
    for client in clients:
        mine = sum(wrong(image, answer, alone) for image, answer in client.answers)
        answers, lost, bad = answers + len(client.answers), lost + client.lost.total(), bad + mine
        if mine or client.lost:
            found = troubles.setdefault(client.key, Counter())
            found.update({f"lost: {reason}": count for reason, count in client.lost.items()})
            found["wrong"] += mine
    return {"answers": answers, "lost": lost, "wrong": bad, "troubles": troubles}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a trained run or an export")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60, help="of all clients, in turns with the others")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10, help="of load, to see memory grow")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2, help="of extract_many")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = drawn(asked.images, Path(folder))
        bodies = [json.dumps({"images": [as_data_url(file)]}).encode() for file in files]
        alone = Alone(asked.model, files, asked.threads)
        try:
            figures = measured(asked.model, alone, bodies, asked)
        finally:
            alone.close()
    code = report(load_aims(figures, asked.clients))
    for key, found in figures["troubles"].items():
        print(f"{key}: {', '.join(f'{count} {what}' for what, count in found.items() if count)}")
    names = ("one_client_per_s", "all_clients_per_s", "extract_many_per_s", "median_s", "p95_s", "memory_mb")
    print(", ".join(f"{name} {figures[name]}" for name in names))
    if asked.json:
        asked.json.write_text(json.dumps({**vars(asked), **figures}, indent=2, default=str) + "\n", encoding="utf-8")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
