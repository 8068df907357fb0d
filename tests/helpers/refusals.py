"""What a read of damaged files says; anything but an error of ours fails the test."""

from collections.abc import Callable
from typing import Any

from phisight.core.errors import PhisightError


def refusal(read: Callable[[], Any], where: str) -> str:
    """The error of a read, on one line; empty where it went through."""
    try:
        read()
    except PhisightError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
    return ""
