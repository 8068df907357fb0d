"""Requests made from the OpenAPI document, and mutated images, against a server: no 500, no growth, no hang.

    python benchmarks/serve_fuzz.py --model RUN --schemathesis PROGRAM [--requests 5000] [--images 2000] [--seed 0]

PROGRAM is the command of schemathesis in an environment of its own (``make fuzz-serve MODEL=RUN`` makes both). It makes
valid and invalid requests for each operation of the document, run after run, until the server has counted so many.
Images are files of many formats with bytes changed, cut, moved or joined, sent as forms, data URLs and chat messages.
Memory is that of the server and its children, after a fifth of either and at the end. A hang is a request without an
answer within a minute, rows still in work afterwards, or a server that does not end. Ends with 1 where an aim is
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import random
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, features
from serving_aims import GROWTH, Aim, report
from serving_process import as_data_url, drawn, resident_mb, serving

AT_ONCE = 8
LONGEST_S = 60
_KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png": ("PNG", "RGB", {}),
    "png palette": ("PNG", "P", {}),
    "png 16 bit": ("PNG", "I;16", {}),
    "png transparent": ("PNG", "RGBA", {}),
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg progressive": ("JPEG", "RGB", {"progressive": True}),
    "jpeg cmyk": ("JPEG", "CMYK", {}),
    "jpeg gray": ("JPEG", "L", {}),
    "jpeg exif": ("JPEG", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
    "webp": ("WEBP", "RGB", {}),
    "webp lossless": ("WEBP", "RGBA", {"lossless": True}),
    "gif": ("GIF", "P", {}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "ico": ("ICO", "RGBA", {}),
    **({"avif": ("AVIF", "RGB", {})} if features.check("avif") else {}),
}


def whole_images(source: Image.Image) -> dict[str, bytes]:
    """One file of each kind, of a small image."""
    small, found = source.convert("RGB").resize((96, 72)), {}
    for name, (kind, mode, options) in _KINDS.items():
        image = small.convert("I").convert("I;16") if mode == "I;16" else small.convert(mode)
        file = io.BytesIO()
        image.save(file, kind, **options)
        found[name] = file.getvalue()
    return found


def _flipped(data: bytearray, draw: random.Random, _other: bytes) -> None:
    for _ in range(draw.choice([1, 4, 60])):
        data[draw.randrange(len(data))] = draw.randrange(256)


def _head(data: bytearray, draw: random.Random, _other: bytes) -> None:
    for _ in range(draw.choice([1, 2, 8])):
        data[draw.randrange(min(len(data), 64))] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])


def _number(data: bytearray, draw: random.Random, _other: bytes) -> None:
    """A number of four bytes, which may be a size, made small, large or negative."""
    place = draw.randrange(max(1, min(len(data), 300) - 4))
    value = draw.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])
    data[place : place + 4] = value.to_bytes(4, "big" if draw.random() < 0.5 else "little")


def _cut(data: bytearray, draw: random.Random, _other: bytes) -> None:
    del data[draw.randrange(len(data)) :]


def _hole(data: bytearray, draw: random.Random, _other: bytes) -> None:
    place = draw.randrange(len(data))
    del data[place : place + draw.choice([1, 7, 100])]


def _zeros(data: bytearray, draw: random.Random, _other: bytes) -> None:
    place = draw.randrange(len(data))
    size = min(draw.choice([4, 64, 1000]), len(data) - place)
    data[place : place + size] = bytes(size)


def _repeated(data: bytearray, draw: random.Random, _other: bytes) -> None:
    place = draw.randrange(len(data))
    data[place:place] = data[place : place + draw.choice([8, 100, 1000])] * draw.choice([1, 30])


def _moved(data: bytearray, draw: random.Random, _other: bytes) -> None:
    one, two = sorted(draw.sample(range(len(data) + 1), 2))
    piece = data[one:two]
    del data[one:two]
    place = draw.randrange(len(data) + 1)
    data[place:place] = piece


def _joined(data: bytearray, draw: random.Random, other: bytes) -> None:
    data[draw.randrange(len(data)) :] = other[draw.randrange(len(other)) :]


def _tail(data: bytearray, draw: random.Random, _other: bytes) -> None:
    data += draw.randbytes(draw.choice([1, 100, 10_000]))


MUTATIONS: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    _flipped, _head, _number, _cut, _hole, _zeros, _repeated, _moved, _joined, _tail,
)  # fmt: skip


def mutated(wholes: dict[str, bytes], draw: random.Random) -> bytes:
    """A file with one to three mutations."""
    data = bytearray(draw.choice(list(wholes.values())))
    for _ in range(draw.choice([1, 1, 2, 3])):
        if data:
            draw.choice(MUTATIONS)(data, draw, draw.choice(list(wholes.values())))
    return bytes(data)


async def send_images(url: str, model: str, files: list[bytes], first: int = 0) -> Counter[str]:
    """Send images, some at a time, numbered from ``first``; how often which status came, or what came instead."""
    found: Counter[str] = Counter()
    waiting = list(enumerate(files, first))

    async def one_after_another(client: httpx.AsyncClient) -> None:
        while waiting:
            number, data = waiting.pop()
            address = f"data:image/png;base64,{base64.b64encode(data).decode()}"
            part = {"type": "image_url", "image_url": {"url": address}}
            chat = {"model": model, "messages": [{"role": "user", "content": [part]}], "max_tokens": 32}
            try:
                if number % 3 == 0:
                    answer = await client.post("/v1/extract", files=[("image", ("a", data))])
                elif number % 3 == 1:
                    answer = await client.post("/v1/extract", json={"images": [address]})
                else:
                    answer = await client.post("/v1/chat/completions", json=chat)
                found[str(answer.status_code)] += 1
                if answer.status_code >= 500:
                    print(f"image {number}: {answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as error:
                found[type(error).__name__] += 1
                print(f"image {number}: {type(error).__name__}")

    async with httpx.AsyncClient(base_url=url, timeout=LONGEST_S) as client:
        await asyncio.gather(*(one_after_another(client) for _ in range(AT_ONCE)))
    return found


def counted(url: str) -> Counter[str]:
    """Requests that the server has answered, by status."""
    text = httpx.get(f"{url}/metrics", timeout=LONGEST_S).text
    found: Counter[str] = Counter()
    for status, count in re.findall(r'phisight_answers_total\{path="[^"]*",status="(\w+)"\} (\d+)', text):
        found[status] += int(count)
    return found


def schema_driven(program: Path, url: str, most: int, seed: int) -> tuple[int, bool]:
    """Requests of schemathesis until there are so many; their number, and whether each run found nothing."""
    begin, fine, rounds = counted(url).total(), True, 0
    while (done := counted(url).total() - begin) < most and rounds < 50:
        options = ["--checks", "not_a_server_error", "--phases", "fuzzing", "--generation-database", "none"]
        options += ["--max-examples", str(max(20, min(1000, (most - done) // 6))), "--seed", str(seed + rounds)]
        command = [str(program.resolve()), "run", f"{url}/openapi.json", *options, "--request-timeout", str(LONGEST_S)]
        with tempfile.TemporaryDirectory() as folder:  # it leaves a cache where it runs
            found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
        if found.returncode:
            fine = False
            print(found.stdout[-3000:], found.stderr[-1000:])
        rounds += 1
    return done, fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a trained run or an export")
    parser.add_argument("--schemathesis", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=5000, help="made from the document")
    parser.add_argument("--images", type=int, default=2000, help="mutated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the mutated images, by their numbers")
    asked = parser.parse_args()
    draw, begin = random.Random(asked.seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, serving(asked.model, (), "--max-tokens", "32") as (url, pid):
        (file,) = drawn(1, Path(folder))
        wholes = whole_images(Image.open(file))
        files = [mutated(wholes, draw) for _ in range(asked.images)]
        if asked.keep is not None:
            asked.keep.mkdir(parents=True, exist_ok=True)
            for number, data in enumerate(files):
                (asked.keep / str(number)).write_bytes(data)
        model = httpx.get(f"{url}/v1/models", timeout=LONGEST_S).json()["data"][0]["id"]
        some = asked.images // 5
        first, fine = schema_driven(asked.schemathesis, url, asked.requests // 5, asked.seed + 1000)
        images = asyncio.run(send_images(url, model, files[:some]))
        before = resident_mb(pid)
        more, also = schema_driven(asked.schemathesis, url, asked.requests - first, asked.seed)
        images += asyncio.run(send_images(url, model, files[some:], some))
        answer = httpx.post(f"{url}/v1/extract", json={"images": [as_data_url(file)]}, timeout=LONGEST_S)
        statuses, left = counted(url), still_in_work(url)
        after = resident_mb(pid)
    broken = sum(count for status, count in statuses.items() if status.startswith("5"))
    unanswered = sum(count for status, count in images.items() if not status.isdigit())
    print(
        f"{statuses.total()} requests in {time.perf_counter() - begin:.0f} s: {dict(statuses)}; images: {dict(images)}"
    )
    print(f"memory {before:.0f} MB, then {after:.0f} MB")
    raise SystemExit(report(fuzz_aims(asked, first + more, images.total(), {
        "broken": broken, "findings": not (fine and also), "unanswered": unanswered, "left": left,
        "growth": after / before, "afterwards": answer.status_code,
    })))  # fmt: skip


def still_in_work(url: str) -> int:
    """Choices and requests that are still there ten seconds after the last answer."""
    left = 0
    for _ in range(100):
        ready = httpx.get(f"{url}/ready", timeout=LONGEST_S).json()
        left = ready["waiting"] + ready["in_work"]
        if not left:
            break
        time.sleep(0.1)
    return int(left)


def fuzz_aims(asked: argparse.Namespace, requests: int, images: int, seen: dict[str, Any]) -> list[Aim]:
    """What was seen beside the aims."""
    return [
        Aim("requests from the document", requests, f">= {asked.requests}", requests >= asked.requests),
        Aim("mutated images", images, f">= {asked.images}", images >= asked.images),
        *(Aim(name, seen[key], "0", not seen[key]) for name, key in (
            ("answers of 500 or more", "broken"), ("findings of schemathesis", "findings"),
            ("images without an answer", "unanswered"), ("still in work", "left"),
        )),
        Aim("memory at the end / after a fifth", seen["growth"], f"<= {GROWTH}", seen["growth"] <= GROWTH),
        Aim("status of an answer afterwards", seen["afterwards"], "200", seen["afterwards"] == 200),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
