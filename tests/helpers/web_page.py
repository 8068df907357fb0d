"""Files dropped on the served page, and words on it that are waited for."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from tests.helpers.browser import Page


def until(page: Page, expression: str, seconds: float = 60) -> Any:
    """The value of an expression once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := page.run(expression)):
        assert time.monotonic() < deadline, (expression, page.run("document.body.innerText"), page.console)
        time.sleep(0.1)
    return found


def transfer(data: bytes, kind: str = "image/png") -> str:
    """JavaScript of a DataTransfer with a file."""
    text = base64.b64encode(data).decode()
    return (
        f"(() => {{ const all = new DataTransfer(); const text = atob({json.dumps(text)});"
        f"all.items.add(new File([Uint8Array.from(text, (c) => c.charCodeAt(0))], 'a <b>.png', {{type: '{kind}'}}));"
        "return all; })()"
    )


def drop(page: Page, data: bytes, kind: str = "image/png") -> None:
    """Drop a file."""
    page.run(
        f"document.getElementById('drop').dispatchEvent(new DragEvent('drop', {{dataTransfer: {transfer(data, kind)}, "
        "bubbles: true, cancelable: true})), 0"
    )


def click(page: Page, name: str) -> None:
    """Click what has this id."""
    page.run(f"document.getElementById('{name}').click()")


def text_of(page: Page, name: str) -> str:
    """The text of what has this id."""
    return str(page.run(f"document.getElementById('{name}').textContent"))
