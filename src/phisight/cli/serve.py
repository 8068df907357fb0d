"""``phisight serve``: a model behind the OpenAI protocol, and a page to try it on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from phisight.cli.screen import WeightType, console, quiet_libraries
from phisight.core.errors import MissingExtraError


def serve_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, an export, adapters, or a hub name.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 means a free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="What clients call the model; the folder's name by default.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data set folder whose task a MODEL without a task file is asked.")
    ] = None,
    dtype: WeightType = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Answers in the making at once.")] = 16,
    queue: Annotated[int, typer.Option(min=1, help="Requests that wait; beyond it 429.")] = 256,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one request, waiting included.")] = 120,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Requests of one client a minute; any number by default.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 512,
    max_images: Annotated[int, typer.Option(min=1, help="Images of one request.")] = 8,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Largest body of a request in MB.")] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images; 0 means a thread.")] = 2,
    grace: Annotated[float, typer.Option(min=1, help="Seconds for running answers after SIGTERM.")] = 30,
    allow_fetch: Annotated[
        bool, typer.Option("--allow-fetch", help="Fetch images behind http and https addresses, public ones alone.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name, besides localhost, by which clients may call; repeat it.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of a web page that may ask (CORS); repeat it.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen on a public address without a key.")] = False,
) -> None:
    """Serve a model: chat completions, typed fields, a page at / (needs the extra 'serve').

    Keys come from PHISIGHT_API_KEY, divided by commas; without one anybody on this machine may ask.

    Examples:
        phisight serve runs/demo
        phisight serve models/products --port 9000 --allow-fetch
    """
    quiet_libraries()
    try:
        from phisight.serve.serve_settings import KEY_VARIABLE, ServeSettings, keys_of
        from phisight.workflows.serve import serve
    except ImportError as error:
        if error.name and error.name.partition(".")[0] in _OF_EXTRA:
            raise MissingExtraError("phisight serve", "serve") from error
        raise
    settings = ServeSettings(
        host=host,
        port=port,
        keys=keys_of(os.environ.get(KEY_VARIABLE)),
        insecure=insecure,
        allow_fetch=allow_fetch,
        allow_hosts=tuple(allow_host or ()),
        allow_origins=tuple(allow_origin or ()),
        max_sequences=batch_size,
        max_queue=queue,
        timeout_s=timeout,
        rate_per_minute=rate,
        max_body_bytes=max_body_mb * 1_000_000,
        max_images=max_images,
        max_new_tokens=max_tokens,
        workers=workers,
        grace_s=grace,
    )
    serve(model, settings, data=data, dtype=dtype, served_name=name, announce=_announce)


_OF_EXTRA = {"fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"}


def _announce(url: str) -> None:
    console.print(f"Serving at [bold]{url}[/bold]  page: {url}/  protocol: {url}/v1  (Ctrl-C ends it)", highlight=False)
