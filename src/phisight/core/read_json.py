"""Read JSON files that a command is given or finds: bounded, and every damage is one line.

Errors are ValueErrors too, so that a reader with more to say (which command writes the file again) can catch and
replace them. A file that is not there stays a FileNotFoundError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phisight.core.errors import UnreadableFileError

MOST_BYTES = 256_000_000
"""Of a JSON file or of one line of a JSON Lines file; nothing phisight writes comes near."""


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The value of a JSON file; UnreadableFileError when it is damaged, cut or too large."""
    return parse_json(bounded_bytes(path, most), path)


def read_object(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The object of a JSON file; UnreadableFileError when it holds anything else."""
    return _object(read_json(path, most), path)


def read_objects(path: Path, most: int = MOST_BYTES) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file; UnreadableFileError for a line that is none."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most:
                raise UnreadableFileError(f"{path} line {number} has more than {most} bytes")
            if line.strip():
                yield _object(parse_json(line, f"{path} line {number}"), f"{path} line {number}")


def bounded_bytes(path: Path, most: int) -> bytes:
    """The bytes of a file; UnreadableFileError when there are more than ``most``."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UnreadableFileError(f"{path} has more than {most} bytes")
    return data


def parse_json(data: bytes, where: object) -> Any:
    """The value of JSON text in UTF-8; UnreadableFileError names ``where``."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise UnreadableFileError(f"{where} is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{where} is no UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise UnreadableFileError(f"{where} is no JSON: {str(error)[:120]}") from None


def _object(value: Any, where: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableFileError(f"{where} holds a JSON {type(value).__name__}, no object")
    return value
