"""Runs of the W&B client without account and host; their records (LevelDB log blocks, protobuf) without its reader."""

from __future__ import annotations

import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2 as protocol

BLOCK, HEADER, PREAMBLE = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@contextmanager
def no_account() -> Iterator[None]:
    """No account of this machine, and in place of the public host an address of loopback where nobody listens.

    The client reads its environment when its first run begins, and forgets it when it is torn down, as here at the end.
    """
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        for name in ("WANDB_API_KEY", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        patch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        yield
        wandb.teardown()


def records(path: Path) -> Iterator[Any]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = PREAMBLE, []
    while position < len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        payload = data[position + HEADER : position + HEADER + length]
        assert len(payload) == length, "torn record"
        assert checksum == zlib.crc32(bytes([kind]) + payload), "damaged record"
        parts.append(payload)
        position += HEADER + length
        if kind in (FULL, LAST):
            record = protocol.Record()  # type: ignore[attr-defined]
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def closed(folder: Path) -> Path:
    """The one offline run below ``folder``, once the client's service has written its last record (exit)."""
    for _ in range(300):
        found = list((folder / "wandb").glob("offline-run-*/run-*.wandb"))
        try:
            if found and [record for record in records(found[0]) if record.WhichOneof("record_type") == "exit"]:
                return found[0]
        except (AssertionError, struct.error):
            pass  # a record is being written
        time.sleep(0.1)
    raise AssertionError(f"no finished run below {folder}")


def history(path: Path) -> list[dict[str, Any]]:
    """Each logged line, nested keys joined with a slash-free dot as the client nests them."""
    lines = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            lines.append(
                {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
    return lines
