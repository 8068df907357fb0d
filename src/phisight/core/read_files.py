"""Read JSON and YAML files that a command is given or finds: bounded, and every damage is one line.

YAML goes through the safe loader, within bounds of size, depth, and what aliases unfold to. Errors are ValueErrors too,
so that a reader with more to say (which command writes the file again) can catch and replace them. A file that is not
there stays a FileNotFoundError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from phisight.core.errors import UnreadableFileError

MOST_BYTES = 256_000_000
"""Of a JSON file or of one line of a JSON Lines file; nothing phisight writes comes near."""
MOST_YAML_BYTES = 2_000_000
MOST_NODES = 100_000
"""Values of a document, each alias counted with all it stands for."""
MOST_LEVELS = 50


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


def read_yaml(path: Path) -> Any:
    """The value of a YAML file; UnreadableFileError when it is damaged, cut, too large or unfolds too far.

    A file that is not there stays a FileNotFoundError.
    """
    data = bounded_bytes(path, MOST_YAML_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{path} is no UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, where: object) -> Any:
    """The value of a YAML text; UnreadableFileError names ``where``."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, where)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise UnreadableFileError(f"{where} is nested too deeply") from None
    except UnreadableFileError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableFileError(f"{where} is no YAML: {' '.join(str(error).split())[:200]}") from None


def _check(root: yaml.Node, where: object) -> None:
    """UnreadableFileError for a document that nests or unfolds too far, or holds itself."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node, level: int) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in open_nodes or level > MOST_LEVELS:
            what = "holds itself" if id(node) in open_nodes else f"is nested more than {MOST_LEVELS} levels deep"
            raise UnreadableFileError(f"{where} {what}")
        open_nodes.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            total += sum(size(key, level + 1) + size(value, level + 1) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(value, level + 1) for value in node.value)
        open_nodes.discard(id(node))
        if total > MOST_NODES:
            raise UnreadableFileError(f"{where} unfolds to more than {MOST_NODES} values")
        sizes[id(node)] = total
        return total

    size(root, 1)
