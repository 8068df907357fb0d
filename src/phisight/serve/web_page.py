"""The page at ``/``: one file with style, script and examples in it, which asks this server alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from phisight.serve.serve_settings import ServeSettings
from phisight.serve.served_model import ServedModel


@cache
def _part(name: str) -> str:
    return (files("phisight.serve") / "templates" / name).read_text(encoding="utf-8")


def web_page(served: ServedModel, settings: ServeSettings, examples: Sequence[bytes], *, nearest: bool) -> str:
    """The page.

    Args:
        served: What answers.
        settings: Whether a key is needed, how many images a request may hold.
        examples: JPEG files to click.
        nearest: Whether training images can be shown.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("answer.html.jinja")).render(
        model=served.name,
        prompt=served.task.prompt,
        needs_key=bool(settings.keys),
        max_images=settings.max_images,
        examples=[f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for one in examples],
        nearest=nearest,
        settings={"max_images": settings.max_images, "nearest": nearest},
        style=Markup(_part("answer.css")),  # noqa: S704 - our own files
        script=Markup(_part("answer.js")),  # noqa: S704
    )


def page_policy() -> str:
    """The content security policy: nothing from elsewhere, no script but the page's own."""
    digest = base64.b64encode(hashlib.sha256(_part("answer.js").encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
