"""Errors in the form of the protocol: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phisight.core.errors import PhisightError

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class ApiError(PhisightError):
    """An error that a client gets: status, message of one line, the parameter it is about, a code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_s = status, message, param, code, retry_s

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.status, self.message, self.param, self.code, self.retry_s)

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": printable(self.message), "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers beside the body."""
        found = {} if self.retry_s is None else {"Retry-After": str(max(1, round(self.retry_s)))}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def _again(status: int, message: str, param: str | None, code: str | None, retry_s: float | None) -> ApiError:
    """An error that came from another process."""
    return ApiError(status, message, param=param, code=code, retry_s=retry_s)


def shutting_down() -> ApiError:
    """What a request gets while the server ends."""
    return ApiError(503, "the server is shutting down", code="shutting_down", retry_s=5)


def refused(name: str, why: str = "is not supported by this server; leave it out") -> ApiError:
    """A parameter that would change the answer and is not supported."""
    return ApiError(400, f"{name} {why}", param=name, code="unsupported_parameter")


def invalid(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of pydantic's errors, without the value that was given."""
    first = errors[0] if errors else {"loc": (), "msg": "the body is not valid"}
    param = path_of(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ApiError(400, f"{param or 'the body'}: {message}{more}", param=param or None, code="invalid_value")


def path_of(location: Sequence[Any]) -> str:
    """``("body", "messages", 0, "content")`` as ``messages[0].content``; names of pydantic's unions left out."""
    text = ""
    for part in location[1:] if location and location[0] == "body" else location:
        if isinstance(part, str) and (part in ("str", "int") or "[" in part):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return printable(text)[:200]


def printable(text: str) -> str:
    """A text that any client can read: one line, no lone surrogates."""
    return "".join(char if char.isprintable() else " " for char in text)[:1000]


def name_and_place(error: Exception) -> str:
    """An exception for the log: its name and place, never its text, which may hold what a client sent."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{type(error).__name__} at {at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else type(error).__name__
