"""Titles in the style of the real ones, never one of them: words (or letters) that follow each other in real titles."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict

import numpy as np

_START, _END = "\x02", "\x03"
_TRIES = 40


def normal(text: str) -> str:
    """A title as it is compared: case, spaces and Unicode forms do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def tokens(text: str) -> list[str]:
    """Words; letters with their marks where a script writes without spaces or the title is one word."""
    words = text.split()
    if len(words) > 1 and not _unspaced(text):
        return words
    letters: list[str] = []
    for letter in text:
        if letters and (unicodedata.category(letter).startswith("M") or letter in "\u200c\u200d"):
            letters[-1] += letter
        else:
            letters.append(letter)
    return letters


def _unspaced(text: str) -> bool:
    return any(unicodedata.name(letter, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI")) for letter in text)


class TextModel:
    """Chains of tokens, for each context (a category) and for the whole column."""

    def __init__(self, texts: list[str], contexts: list[str]) -> None:
        self._real = {normal(text) for text in texts}
        self._spaced = sum(len(text.split()) > 1 and not _unspaced(text) for text in texts) * 2 > len(texts)
        cut = [text.split() if self._spaced else tokens(text) for text in texts]
        often = {token for token, count in Counter(t for each in cut for t in set(each)).items() if count > 1}
        self._chains: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._longest = max((len(each) for each in cut), default=1) + 2
        for each, context in zip(cut, contexts, strict=True):
            for before, after in zip([_START, *each], [*each, _END], strict=True):
                self._chains[context][before].append(after)
                self._chains[""][before].append(after)
        for chain in self._chains.values():
            for before, every in chain.items():
                # a token of one title only (a name, a number) is handed on only where nothing else follows
                chain[before] = [each for each in every if each == _END or each in often] or every
        self._words = sorted({token for each in cut for token in each})

    def draw(self, context: str, rng: np.random.Generator) -> str:
        """A title of the context that is none of the real ones."""
        for attempt in range(_TRIES):
            # half of the tries stay within the category; then any word that follows in the whole table may follow
            text = self._walk(context, rng, 0.0 if attempt < _TRIES // 2 else 0.4)
            if text and normal(text) not in self._real:
                return text
        return self._changed(self._walk(context, rng, 0.2) or self._words[0], rng)

    def _walk(self, context: str, rng: np.random.Generator, wander: float) -> str:
        chain, whole = self._chains.get(context, self._chains[""]), self._chains[""]
        token, walked = _START, list[str]()
        while len(walked) < self._longest:
            wide = token not in chain or rng.random() < wander
            after = (whole if wide else chain)[token]
            token = after[int(rng.random() * len(after))]
            if token == _END:
                break
            if not walked or walked[-1] != token or not self._spaced:
                walked.append(token)
        return (" " if self._spaced else "").join(walked)

    def _changed(self, text: str, rng: np.random.Generator) -> str:
        """A title with a word added, then numbered: for tables whose words allow nothing new."""
        joint = " " if self._spaced or len(text.split()) > 1 else ""
        for _ in range(_TRIES):
            longer = text + joint + self._words[int(rng.random() * len(self._words))]
            if normal(longer) not in self._real:
                return longer
        number = 2
        while normal(f"{text} {number}") in self._real:
            number += 1
        return f"{text} {number}"
