"""One server with OpenAI's chat completions: connections, time limits, retries.

body -> POST -> 2xx: the JSON object
                429, 5xx, reset, silence: again after a pause, at most ``attempts`` times
                401, 403, 404: nobody can be answered; anything else: this request cannot
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from phisight.core.errors import EngineError, SettingsError
from phisight.data.fetch.failures import seconds_to_wait

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
NOBODY = {401: "rejects the key; set OPENAI_API_KEY", 403: "rejects the key; set OPENAI_API_KEY"}
OWNER = "phisight"
"""Whom phisight's own server names as the owner of its models."""
MOST_BYTES = 16_000_000
"""Longest body of an answer."""


class FailedRequestError(Exception):
    """One request cannot be answered."""


class _TransientError(Exception):
    """May go well another time."""

    def __init__(self, reason: str, pause_s: float | None = None, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.pause_s, self.unreachable = pause_s, unreachable


@dataclass(frozen=True)
class ServerLimits:
    """How long and how often a server is asked."""

    total_s: float = 300.0
    """Seconds for one attempt, waiting in the server's queue included."""
    connect_s: float = 10.0
    """Seconds until a connection stands."""
    attempts: int = 6
    """Requests for one answer; only transient failures are tried again."""
    backoff_s: float = 0.5
    """Pause before the second attempt; doubled for each further one, with a random part of a half."""
    longest_pause_s: float = 120.0
    """A Retry-After beyond it is not waited for."""


class ChatClient:
    """A server; a context manager, safe to use from many threads inside.

    Args:
        url: Address of the server, with or without ``/v1``.
        model: Name of the model there; None means the first one that it lists.
        key: Sent as ``Authorization: Bearer``; never shown.
        limits: How long and how often it is asked.
    """

    def __init__(
        self, url: str, model: str | None = None, *, key: str | None = None, limits: ServerLimits | None = None
    ) -> None:
        self.url = base_url(url)
        self.model = model
        self._limits = limits or ServerLimits()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._log_probabilities = True
        self._resume_at = 0.0
        self._stopped, self._naming = threading.Event(), threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: Any = None
        self._running: set[Any] = set()

    def __enter__(self) -> Self:
        self._stopped.clear()
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="chat", daemon=True)
        self._thread.start()
        self._session = asyncio.run_coroutine_threadsafe(self._opened(), loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._session.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop(self) -> None:
        """Give up what is on its way."""
        self._stopped.set()
        for future in list(self._running):
            future.cancel()

    async def _opened(self) -> Any:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._limits.total_s, sock_connect=self._limits.connect_s)
        return aiohttp.ClientSession(timeout=timeout, headers=self._headers, connector=aiohttp.TCPConnector(limit=0))

    def ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to a chat completion.

        Raises:
            FailedRequestError: This one cannot be answered.
            EngineError: No request can.
        """
        with self._naming:
            if self.model is None:
                self.model = self._first_model()
        attempt = 1
        while True:
            try:
                return self._once("POST", "chat/completions", self._body(body))
            except _TransientError as error:
                pause = self._pause(error, attempt)
                if attempt >= self._limits.attempts or pause is None:
                    if error.unreachable:
                        raise EngineError(
                            f"{self.url} cannot be reached: {error}; start the server, and give the same command again"
                        ) from error
                    raise FailedRequestError(f"{error}, asked {attempt} times") from error
            attempt += 1
            if self._stopped.wait(pause):
                raise FailedRequestError("stopped")

    def _body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {name: value for name, value in body.items() if name != "logprobs" or self._log_probabilities}
        return {"model": self.model, **wanted}

    def owner(self) -> str | None:
        """Whom the server says its model belongs to (``owned_by``); None where it does not say.

        EngineError where it cannot be reached.
        """
        try:
            own = next(one for one in self._models() if self.model in (None, one["id"]))
            return str(own["owned_by"])
        except (FailedRequestError, KeyError, StopIteration, TypeError):
            return None

    def _first_model(self) -> str:
        """The first model that the server lists; EngineError where it lists none."""
        try:
            return str(self._models()[0]["id"])
        except (FailedRequestError, KeyError, IndexError, TypeError) as error:
            raise EngineError(f"{self.url}/models names no model ({error}); name it with --served-model") from error

    def _models(self) -> Any:
        """What the server lists; EngineError where it cannot be reached."""
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return self._once("GET", "models", None)["data"]
            except _TransientError as error:
                pause = self._pause(error, attempt)
                if attempt == self._limits.attempts or pause is None or self._stopped.wait(pause):
                    raise EngineError(f"{self.url} cannot be reached: {error}; is the server running?") from error
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, error: _TransientError, attempt: int) -> float | None:
        """Seconds before the next attempt; None where the server asks for more than is waited for."""
        if error.pause_s is not None:
            if error.pause_s > self._limits.longest_pause_s:
                return None
            self._resume_at = max(self._resume_at, time.monotonic() + error.pause_s)
            return error.pause_s
        return float(self._limits.backoff_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """One request, after the pause that the server has asked for."""
        left = self._resume_at - time.monotonic()
        if left > 0 and self._stopped.wait(left):
            raise FailedRequestError("stopped")
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(self._sent(method, path, body), self._loop)
        self._running.add(future)
        try:
            return future.result()
        except (CancelledError, asyncio.CancelledError):
            raise FailedRequestError("stopped") from None
        finally:
            self._running.discard(future)

    async def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        import aiohttp

        try:
            async with self._session.request(
                method, f"{self.url}/{path}", json=body, allow_redirects=False
            ) as response:
                data = await response.content.read(MOST_BYTES)
                while chunk := await response.content.read(MOST_BYTES):
                    data += chunk
                    if len(data) > MOST_BYTES:
                        raise FailedRequestError(f"an answer of more than {MOST_BYTES} bytes")
                return self._read(response.status, response.headers, data, body)
        except aiohttp.ClientConnectorError as error:
            raise _TransientError(_line(error), unreachable=True) from error
        except TimeoutError as error:
            raise _TransientError(f"no answer within {self._limits.total_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _TransientError(_line(error)) from error

    def _read(self, status: int, headers: Mapping[str, str], data: bytes, body: Any) -> dict[str, Any]:
        if 200 <= status < 300:
            try:
                value = json.loads(data)
            except ValueError as error:
                raise _TransientError("the answer is no JSON") from error
            if not isinstance(value, dict):
                raise FailedRequestError("the answer is no JSON object")
            return value
        reason = f"{status} {_message(data)}".strip()
        if status in TRANSIENT:
            raise _TransientError(reason, seconds_to_wait(headers.get("Retry-After")))
        if status == 400 and body is not None and "logprobs" in body and b"logprob" in data:
            self._log_probabilities = False  # some servers have none
            raise _TransientError(reason, 0.0)
        if status in NOBODY:
            raise EngineError(f"{self.url} {NOBODY[status]} ({reason})")
        if status == 404 and body is not None:
            raise EngineError(f"{self.url} has no model {self.model!r} or no chat completions ({reason})")
        raise FailedRequestError(reason)


def base_url(url: str) -> str:
    """Address up to and with ``/v1``; SettingsError for one that is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--url {url!r} is no address of a server; write http://HOST:PORT/v1")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v1') else path + '/v1'}"


def _message(data: bytes) -> str:
    """What a server says of an error, in one line."""
    text = data[:2000].decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
        error = found.get("error", found) if isinstance(found, dict) else found
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except ValueError:
        pass
    return " ".join(text.split())[:200]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
