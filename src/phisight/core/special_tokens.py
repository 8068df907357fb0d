"""Special tokens of chat models inside texts of people: found, so that no title ends a turn or stands for an image."""

from __future__ import annotations

import re

from phisight.core.errors import TaskError, some

_SPECIAL = re.compile(
    r"<\|[^\s<>|]{1,40}\|>|</?s>|<unk>|<pad>|<mask>|<bos>|<eos>|<image>|</?(?:img|box|ref)>|\[/?INST\]"
)
_LEADING_IMAGE = re.compile(r"\A\s*<\|image_1\|>[ \t]*\n?")


def special_tokens_in(text: str) -> list[str]:
    """The special tokens that a text holds, in order, each once.

    Those of Phi-3 (``<|end|>``, ``<|user|>``, ``<|image_1|>``, ``<s>`` ...) and the placeholders of other models, which
    a tokenizer may split into plain text but which a data set of another model's format brings along.
    """
    return list(dict.fromkeys(_SPECIAL.findall(text)))


def checked_prompt(prompt: str) -> str:
    """A prompt as it is put to every image; TaskError when it holds a special token.

    A leading ``<|image_1|>``, as the published model cards write it, is the place of the image, which is there anyway:
    it is left out.
    """
    text = _LEADING_IMAGE.sub("", prompt)
    found = special_tokens_in(text)
    if found:
        raise TaskError(
            f"the prompt {prompt[:80]!r} holds {some(found)}; write the question alone: the image and the turns of the "
            "chat are added around it"
        )
    if not text.strip():
        raise TaskError(f"the prompt {prompt[:80]!r} asks nothing; write a question")
    return text
