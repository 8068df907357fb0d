"""A server with a tiny untrained model, in a thread of the test's process, and images to ask it about."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from phisight.core.task import Task
from phisight.export.task_file import TaskFile
from phisight.extraction.answer import AnswerReader
from phisight.extraction.extractor import Extractor, LocalEngine
from phisight.generate import AnswerGrammar
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from phisight.serve.app import Server
from phisight.serve.explain import NearestImages
from phisight.serve.listen import config_of
from phisight.serve.serve_settings import ServeSettings
from phisight.serve.served_model import ServedModel
from phisight.workflows.serve import make_server

OTHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "sizes": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name", "sizes"],
    "additionalProperties": False,
}
"""Another form of answer than the task's."""
TASK = Task(
    answer="Name: {title}, Kind: {kind}, Price: {price}",
    fields={"title": "text", "kind": "category", "price": "number"},
)
KINDS = {"kind": ["HATS", "SHOES"]}
MOST_TOKENS = 48


@cache
def tiny() -> tuple[Any, Any]:
    """Model and processor; random weights, which write anything."""
    texts = [f"Name: Thing {number}, Kind: HATS, Price: {number * 10.0}" for number in range(30)]
    chat = '<|system|> You are an assistant. {"name": "value", "sizes": [1, 2]} true false null'
    processor = tiny_processor([*texts, TASK.prompt, chat] * 3, vocab_size=420, num_crops=1)
    model = tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2), seed=3)
    return model.eval(), processor


def grammar() -> AnswerGrammar:
    """The task's answers."""
    model, processor = tiny()
    return AnswerGrammar(TASK, processor.tokenizer, KINDS, model.generation_config.eos_token_id, max_text_tokens=7)


def served(**changes: Any) -> ServedModel:
    """The tiny model as it is served."""
    values = {"max_new_tokens": MOST_TOKENS, "task_grammar": grammar(), "held": True, "categories": KINDS}
    return ServedModel("tiny", *tiny(), **{"reader": AnswerReader(TASK), **values, **changes})


def extractor() -> Extractor:
    """The same model without a server."""
    return Extractor("tiny", LocalEngine(*tiny(), MOST_TOKENS, grammar()), AnswerReader(TASK))


def exported(folder: Path) -> Path:
    """The same model as an export that ``phisight serve`` loads."""
    model, processor = tiny()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    TaskFile(task=TASK, max_new_tokens=MOST_TOKENS, constrained=True, categories=KINDS).write(folder)
    return folder


@contextmanager
def running(
    model: ServedModel | None = None,
    *,
    examples: Sequence[bytes] = (),
    nearest: NearestImages | None = None,
    **settings: Any,
) -> Iterator[tuple[str, Server]]:
    """Address and server, listening on a free port."""
    values = {"port": 0, "workers": 0, "max_sequences": 4, "max_new_tokens": 64, "grace_s": 2, **settings}
    server = make_server(model or served(), ServeSettings(**values), examples=examples, nearest=nearest)
    running = uvicorn.Server(config_of(server))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    for _ in range(600):
        if running.started:
            break
        thread.join(0.05)
        assert thread.is_alive(), "the server did not start"
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}", server
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"


def image_bytes(seed: int = 0, side: int = 96, kind: str = "PNG") -> bytes:
    """An image file of noise."""
    draw = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    """A file as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(*urls: str, text: str = TASK.prompt) -> list[dict[str, Any]]:
    """Messages of one turn with images and a text."""
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def chat(client: httpx.Client, content: Any = "Go.", **changes: Any) -> httpx.Response:
    """A short free answer."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 4, **changes}
    return client.post("/v1/chat/completions", json=body)


def is_error(response: httpx.Response, status: int, code: str | None = None) -> bool:
    """Whether it is an error in the protocol's form."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    return response.status_code == status and (code is None or error["code"] == code)


def decoded() -> Image.Image:
    """The first image, decoded."""
    return Image.open(io.BytesIO(image_bytes())).convert("RGB")


def mean(image: Image.Image) -> list[float]:
    """Mean of each channel."""
    return [float(value) for value in np.asarray(image).reshape(-1, 3).mean(axis=0)]
