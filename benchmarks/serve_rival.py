"""Answers a second of ``phisight serve`` and of ``transformers serve`` on the same checkpoint, in turns.

    python benchmarks/serve_rival.py --model EXPORT --rival PYTHON [--clients 16] [--seconds 60] [--json FILE]

EXPORT is a folder that ``phisight export`` wrote; PYTHON belongs to an environment of its own with transformers, what
its server needs, and phisight (``make serve-rival MODEL=EXPORT`` makes it). Both servers run all the time, each in a
process of its own; one is asked while the other is idle. Asked is the task's question about drawn products, by
/v1/chat/completions, with the same limit of tokens, likeliest tokens. Ends with 1 where the aim is missed.

``transformers serve`` cannot load this model by itself; what is changed for it, and why, stands in ``RIVAL``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from answer_texts import without_numbers
from serving_aims import Aim, report
from serving_process import as_data_url, drawn, serving

RIVAL = """
import sys
import phisight.model  # transformers has no class for phi3_v: this registers config, processor and model
import transformers
from phisight.model.configuration import ARCHITECTURE
from phisight.model.modeling import Phi3VisionForConditionalGeneration as Model
from transformers.models.auto import modeling_auto
from transformers.cli.transformers import main
# The server looks the class up by the name in config.json among transformers' own ...
setattr(transformers, ARCHITECTURE, Model)
# ... and asks this table whether a model reads images (it has no entry for registered classes).
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[Model.config_class.model_type] = Model.__name__
sys.argv[0] = "transformers"
sys.exit(main())
"""
_START_S = 300


@contextmanager
def rival_serving(python: Path, model: Path) -> Iterator[str]:
    """Address of ``transformers serve``, patched; RuntimeError where it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    threads = max(1, (os.cpu_count() or 2) - 1)  # as ours: one core decodes images and speaks HTTP
    environment["OMP_NUM_THREADS"] = str(threads)
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        [str(python), "-c", RIVAL, "serve", str(model.resolve()), *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if "--quiet" in sys.argv else None,
    )
    try:
        end = time.monotonic() + _START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"transformers serve did not start (exit code {process.poll()})")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


class Asked:
    """Answers of one server, over all its turns.

    Attributes:
        texts: What it said about each image.
        lost: Requests without an answer, by their reason.
    """

    def __init__(self, url: str, model: str) -> None:
        self._url, self._model = url, model
        self.seconds, self.count = 0.0, 0
        self.texts: dict[int, str] = {}
        self.lost: Counter[str] = Counter()

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.count / self.seconds

    async def turn(self, urls: list[str], question: str, clients: int, seconds: float) -> None:
        """Ask with so many clients for so long; what is under way at the end is waited for, and counts."""
        begin = time.perf_counter()

        async def client(http: aiohttp.ClientSession, number: int) -> None:
            image = 7 * number
            while time.perf_counter() < begin + seconds:
                await self._ask(http, image % len(urls), urls[image % len(urls)], question)
                image += 1

        async with aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(total=300)) as http:
            await asyncio.gather(*(client(http, number) for number in range(clients)))
        self.seconds += time.perf_counter() - begin

    async def _ask(self, http: aiohttp.ClientSession, image: int, url: str, question: str) -> None:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
        body: dict[str, Any] = {"model": self._model, "messages": [{"role": "user", "content": parts}]}
        try:
            async with http.post(
                "/v1/chat/completions", json={**body, "max_tokens": 96, "temperature": 0}, raise_for_status=True
            ) as response:
                answer = await response.json()
            self.texts[image] = answer["choices"][0]["message"]["content"].strip()
            self.count += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.lost[f"{type(error).__name__} {error}"[:100]] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="an export")
    parser.add_argument("--rival", type=Path, required=True, help="python with transformers' server and phisight")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60, help="of each server")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--quiet", action="store_true", help="without what transformers serve says")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    from phisight.export.task_file import TaskFile

    task_file = TaskFile.read(asked.model)
    if task_file is None:
        raise SystemExit(f"{asked.model} holds no task file; give what phisight export wrote")
    question = task_file.task.prompt
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(asked.model) as (url, _),
        rival_serving(asked.rival, asked.model) as rival_url,
    ):
        urls = [as_data_url(file) for file in drawn(asked.images, Path(folder))]
        ours = Asked(url, asked.model.resolve().name)
        theirs = Asked(rival_url, str(asked.model.resolve()))
        for one in (ours, theirs):  # to warm up
            asyncio.run(one.turn(urls[:1], question, 1, 1))
            one.count, one.seconds = 0, 0.0
        for _ in range(asked.turns):
            for one in (ours, theirs):
                asyncio.run(one.turn(urls, question, asked.clients, asked.seconds / asked.turns))
    both = set(ours.texts) & set(theirs.texts)
    # Where a number head decides the numbers, ours are its own, and the rival's the digits that the model wrote.
    seen = without_numbers if task_file.numbers != "text" else str
    same = sum(seen(ours.texts[image]) == seen(theirs.texts[image]) for image in both)
    ratio = ours.per_s / theirs.per_s if theirs.count else float("nan")
    print(
        f"ours {ours.per_s:.3g}/s, transformers serve {theirs.per_s:.3g}/s; {same} of {len(both)} answers the same"
        f"{' but for the numbers' if seen is without_numbers else ''}"
    )
    for name, one in (("ours", ours), ("transformers serve", theirs)):
        print(f"{name}: {one.count} answers, lost: {dict(one.lost)}")
    figures = {"ours_per_s": ours.per_s, "theirs_per_s": theirs.per_s, "same": same, "compared": len(both)}
    if asked.json:
        asked.json.write_text(json.dumps({**vars(asked), **figures}, indent=2, default=str) + "\n", encoding="utf-8")
    raise SystemExit(report([
        Aim(f"ours / transformers serve at {asked.clients} clients", ratio, ">= 3", ratio >= 3),
        Aim("lost by ours", ours.lost.total(), "0", not ours.lost),
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
