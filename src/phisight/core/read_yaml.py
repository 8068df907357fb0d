"""Read YAML files with the safe loader, within bounds: size, depth, and what aliases unfold to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from phisight.core.errors import UnreadableFileError
from phisight.core.read_json import bounded_bytes

MOST_BYTES = 2_000_000
MOST_NODES = 100_000
"""Values of a document, each alias counted with all it stands for."""
MOST_LEVELS = 50


def read_yaml(path: Path) -> Any:
    """The value of a YAML file; UnreadableFileError when it is damaged, cut, too large or unfolds too far.

    A file that is not there stays a FileNotFoundError.
    """
    data = bounded_bytes(path, MOST_BYTES)
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
