"""What the tokens of a tokenizer are: bytes of a text, special ones, ends of an answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_KNOWN: WeakKeyDictionary[Any, tuple[tuple[int, frozenset[int]], Mapping[int, bytes]]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def token_bytes(tokenizer: Any) -> Mapping[int, bytes]:
    """The bytes that each ordinary token adds to a text; special tokens are left out.

    Computed once for a tokenizer, as long as it has as many tokens and the same special ones. Safe in any thread.
    """
    special = special_ids(tokenizer)
    state = len(tokenizer), special
    with _LOCK:
        known = _KNOWN.get(tokenizer)
        if known is None or known[0] != state:
            known = _KNOWN[tokenizer] = state, _token_bytes(tokenizer, special)
        return known[1]


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Tokens that are no text."""
    added = {token for token, one in tokenizer.added_tokens_decoder.items() if one.special}
    return frozenset(added.union(tokenizer.all_special_ids))


def end_ids(model: Any) -> list[int]:
    """Tokens that end an answer, as the model's generation config has them."""
    ends = model.generation_config.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends or ())


def _token_bytes(tokenizer: Any, special: frozenset[int]) -> dict[int, bytes]:
    names: dict[str, int] = tokenizer.get_vocab()
    byte_level = any("\u0120" in name for name in names) and not any("\u2581" in name for name in names)
    alphabet = _byte_alphabet() if byte_level else {}
    texts = {}
    for name, token in names.items():
        if token in special:
            continue
        if found := _BYTE_TOKEN.fullmatch(name):
            texts[token] = bytes([int(found[1], 16)])
        elif byte_level:
            texts[token] = b"".join(bytes([alphabet[one]]) if one in alphabet else one.encode() for one in name)
        else:
            texts[token] = name.replace("\u2581", " ").encode()
    return {token: text for token, text in texts.items() if text}


def _byte_alphabet() -> dict[str, int]:
    """Characters that byte-level tokenizers write for bytes: printable ones as they are, the others from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
