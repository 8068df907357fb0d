"""Damaged copies of a file: cut, flipped, wrongly typed, nested, unfolding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    10**6,
    10**7,
    2**31,
    10**30,
    1e308,
    "x",
    "",
    [],
    ["a"],
    {},
    {"a": {"b": 1}},
    "\x1b[2J",
    float("nan"),
]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def damaged_bytes(data: bytes, seed: int = 0, flips: int = 12) -> Iterator[tuple[str, bytes]]:
    """Cut at many places, bytes flipped, bytes that are no text, an empty file."""
    rng = np.random.default_rng(seed)
    for at in sorted({0, 1, 2, len(data) // 3, len(data) // 2, max(0, len(data) - 2), max(0, len(data) - 1)}):
        yield f"cut at {at}", data[:at]
    for at in rng.integers(0, max(1, len(data)), flips).tolist():
        yield f"flipped at {at}", data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    yield "NUL bytes", b"\0" * 50
    yield "no UTF-8", data[: len(data) // 2] + b"\xff\xfe\xfa" + data[len(data) // 2 :]
    yield "twice", data + data
    yield "escape sequence", b"\x1b]0;title\x07" + data


def damaged_json(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Each key in turn missing or of another type, other values than an object, nested 100,000 deep."""
    values = json.loads(data)
    for path in paths(values):
        for odd in [*ODD, ...]:
            changed = json.loads(data)
            put(changed, path, odd)
            yield f"{'.'.join(map(str, path))} = {odd!r}", json.dumps(changed).encode()
    for odd in ODD:
        yield f"all = {odd!r}", json.dumps(odd).encode()
    yield "deep", b"[" * 100_000 + b"]" * 100_000
    yield "deep object", b'{"a":' * 50_000 + b"1" + b"}" * 50_000


def damaged_yaml(data: bytes) -> Iterator[tuple[str, bytes]]:
    """As JSON, and what YAML adds: aliases that unfold, aliases of themselves, dates that are none, objects."""
    values = yaml.safe_load(data)
    for path in paths(values):
        for odd in [*ODD, ...]:
            changed = yaml.safe_load(data)
            put(changed, path, odd)
            yield f"{'.'.join(map(str, path))} = {odd!r}", yaml.safe_dump(changed).encode()
    yield "alias bomb", BOMB.encode()
    yield "deep", ("".join("  " * at + f"a{at}:\n" for at in range(3000))).encode()
    yield "deep flow", b"[" * 3000 + b"]" * 3000
    yield "itself", b"a: &a [*a]\n"
    yield "no date", b"a: 2024-99-99\n"
    yield "an object", b"a: !!python/object/apply:os.system ['true']\n"
    yield "two documents", data + b"\n---\n" + data


def paths(value: Any, prefix: tuple[Any, ...] = (), most: int = 60) -> list[tuple[Any, ...]]:
    """Where values stand, the outermost first."""
    found: list[tuple[Any, ...]] = []
    level = [(prefix, value)]
    while level and len(found) < most:
        deeper = []
        for path, one in level:
            items = one.items() if isinstance(one, dict) else enumerate(one[:2]) if isinstance(one, list) else ()
            deeper += [((*path, key), part) for key, part in items]
        found += [path for path, _ in deeper]
        level = deeper
    return found[:most]


def put(value: Any, path: tuple[Any, ...], odd: Any) -> None:
    """Replace the value at a path; ``...`` removes it."""
    for key in path[:-1]:
        value = value[key]
    if odd is ...:
        del value[path[-1]]
    else:
        value[path[-1]] = odd
