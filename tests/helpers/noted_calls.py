"""What a method is called with, while it does what it did."""

from typing import Any

import pytest


def noted_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[Any]:
    """A list that grows by the argument of each call of ``owner.name``, a method with one."""
    seen: list[Any] = []
    whole = getattr(owner, name)

    def noted(self: Any, given: Any) -> Any:
        seen.append(given)
        return whole(self, given)

    monkeypatch.setattr(owner, name, noted)
    return seen
