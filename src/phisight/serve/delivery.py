"""Answers on their way out: within their deadline, as events where they are streamed, and not to a client that left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from phisight.serve.protocol.api_error import ApiError

_T = TypeVar("_T")


class ClientGoneError(Exception):
    """The client hung up."""


class Deadline:
    """When a request must be answered: so many seconds after it came, whatever it waits for.

    Attributes:
        seconds: How many.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(0.0, self._end - time.monotonic())


async def while_there(request: Request, work: Awaitable[_T], deadline: Deadline) -> _T:
    """The result of work that ends when the client leaves or the deadline comes.

    Raises:
        ClientGoneError: Nobody waits any more.
        ApiError: 504, at the deadline.
    """
    await request.body()  # whoever waits for the news that the client left must not find the body instead
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_gone(request.receive))
    try:
        done, _ = await asyncio.wait({task, left}, timeout=deadline.left, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if left in done:
            raise ClientGoneError
        raise ApiError(504, f"not answered within {deadline.seconds:g} s", code="deadline")
    finally:
        for one in (task, left):
            one.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events, until the client leaves; the generator is closed in any case."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Any, None], deadline: Deadline) -> None:
        super().__init__()
        self._events, self._deadline = events, deadline
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.ensure_future(self._send(send))
        left = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, left}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                scope["state"]["log"]["ended"] = "client left"
        finally:
            for one in (sending, left):
                one.cancel()
            await asyncio.gather(sending, left, return_exceptions=True)
            with contextlib.suppress(RuntimeError):
                await self._events.aclose()

    async def _send(self, send: Send) -> None:
        try:
            async with asyncio.timeout(self._deadline.left):
                async for event in self._events:
                    await send({"type": "http.response.body", "body": _line(event), "more_body": True})
        except ApiError as error:
            await send({"type": "http.response.body", "body": _line(error.body()), "more_body": True})
        except TimeoutError:
            late = ApiError(504, f"not whole within {self._deadline.seconds:g} s", code="deadline")
            await send({"type": "http.response.body", "body": _line(late.body()), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _line(event: Any) -> bytes:
    text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
    return f"data: {text}\n\n".encode("utf-8", "replace")


async def begun(events: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """The same events once the first is there: an error before it has a status of its own."""
    try:
        first = await anext(events)
    except StopAsyncIteration:
        return _none()

    async def every() -> AsyncGenerator[Any, None]:
        try:
            yield first
            async for event in events:
                yield event
        finally:
            await events.aclose()

    return every()


async def _none() -> AsyncGenerator[Any, None]:
    return
    yield
