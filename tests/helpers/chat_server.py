"""A server with OpenAI's chat completions on loopback: answers by an image's color, and misbehaves on request.

``behave(n)`` says how the n-th request is answered:

    ok     the answer, a token a character, each with its log-probability
    bare   without log-probabilities          none    400, since it knows no log-probabilities
    empty  no choices                          broken  half an object
    wait   429 with Retry-After, or 503 and so on: any number is a status
    reset  the connection is cut             silent  nothing for ten seconds
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


class ChatServer:
    """What was asked, and how it is answered."""

    def __init__(
        self,
        answer: Callable[[tuple[int, int, int]], str],
        behave: Callable[[int], str] = lambda _number: "ok",
        *,
        retry_after: str = "0.2",
        hold: int = 1,
        owner: str | None = None,
    ) -> None:
        self.answer, self.behave, self.retry_after, self.owner = answer, behave, retry_after, owner
        self.together = threading.Barrier(hold)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion."""
        parts = body["messages"][0]["content"]
        data = base64.b64decode(parts[0]["image_url"]["url"].split(",", 1)[1])
        with Image.open(io.BytesIO(data)) as image:
            text = self.answer(image.convert("RGB").getpixel((0, 0)))  # type: ignore[arg-type]
        tokens = [{"token": one, "bytes": list(one.encode()), "logprob": -0.01} for one in text]
        return {"choices": [{"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": tokens}}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: ChatServer

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        owned = {"owned_by": self.chat.owner} if self.chat.owner else {}
        self._send(200, {"data": [{"id": "served", **owned}, {"id": "other"}]})

    def do_POST(self) -> None:
        chat = self.chat
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with chat.lock:
            number = len(chat.bodies)
            chat.bodies.append(body)
            chat.keys.append(self.headers.get("Authorization"))
            chat.times.append(time.monotonic())
            chat.at_once += 1
            chat.most_at_once = max(chat.most_at_once, chat.at_once)
        chat.together.wait(20)
        with chat.lock:
            chat.at_once -= 1
        self._behave(chat.behave(number), body)

    def _behave(self, how: str, body: dict[str, Any]) -> None:
        if how == "reset":
            self.close_connection = True
            self.connection.close()
        elif how == "silent":
            time.sleep(10)
        elif how == "broken":
            self._send(200, b'{"choices": [{"mess')
        elif how == "empty":
            self._send(200, {"choices": []})
        elif how == "none" and "logprobs" in body:
            self._send(400, {"error": {"message": "logprobs are not supported"}})
        elif how.isdigit():
            headers = {"Retry-After": self.chat.retry_after} if how in ("429", "503") else {}
            self._send(int(how), {"error": {"message": f"as asked: {how}"}}, headers)
        else:
            reply = self.chat.reply(body)
            if how in ("bare", "none"):
                del reply["choices"][0]["logprobs"]
            self._send(200, reply)


@contextmanager
def serving(chat: ChatServer) -> Iterator[ChatServer]:
    """The server on a port of its own, in threads."""
    handler = type("Handler", (_Handler,), {"chat": chat})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
