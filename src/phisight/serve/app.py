"""The application: endpoints, errors in the protocol's form, what starts and ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from phisight import __version__
from phisight.serve.access import Access
from phisight.serve.chat import Chat
from phisight.serve.delivery import ClientGoneError
from phisight.serve.engine.dispatch import Engine
from phisight.serve.engine.image_workers import ImageWorkers
from phisight.serve.engine.measurements import Measurements
from phisight.serve.explain import Nearest, NearestImages, Occlusion
from phisight.serve.guard import OPEN_PATHS, Guard
from phisight.serve.image_inputs import ImageInputs
from phisight.serve.protocol.api_error import ApiError, invalid
from phisight.serve.protocol.chat_request import ChatRequest
from phisight.serve.protocol.typed_request import TypedRequest
from phisight.serve.serve_settings import ServeSettings
from phisight.serve.served_model import ServedModel
from phisight.serve.typed_answers import TypedAnswers
from phisight.serve.web_page import page_policy, web_page

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The protocol's error", "content": {"application/json": {"schema": _ERROR}}},
    "5XX": {"description": "The protocol's error", "content": {"application/json": {"schema": _ERROR}}},
}
_TYPED_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": TypedRequest.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "stream": {"type": "string", "enum": ["true", "false"]},
                    },
                }
            },
        },
    }
}


class Server:
    """A served model as an application.

    Attributes:
        app: The ASGI application, guard and all.
        engine: What answers.
        failure: Why it did not start; None where it did.
    """

    def __init__(
        self,
        served: ServedModel,
        settings: ServeSettings,
        *,
        examples: Sequence[bytes] = (),
        nearest: NearestImages | None = None,
    ) -> None:
        self.served, self.settings = served, settings
        self._page = web_page(served, settings, examples, nearest=nearest is not None)
        self._nearest = nearest
        self.measurements = Measurements()
        self.workers = ImageWorkers(served.processor, settings.caps, settings.workers)
        self.engine = Engine(
            served.model,
            served.processor,
            self.workers,
            self.measurements,
            numbers=served.numbers,
            max_sequences=settings.max_sequences,
            max_queue=settings.max_queue,
            pooled=served.reader.familiarity is not None,
        )
        self._images = ImageInputs(
            fetch=settings.allow_fetch,
            allow_private=settings.allow_private,
            max_bytes=settings.caps.max_image_bytes,
            max_images=settings.max_images,
        )
        self._ready = False
        self.failure: Exception | None = None
        self._api = FastAPI(
            title="phisight",
            version=__version__,
            description="A tuned Phi-3-Vision behind the OpenAI protocol, with typed fields.",
            docs_url=None,
            redoc_url=None,
            lifespan=self._lifespan,
            responses=_ERRORS,
        )
        self._add_errors()
        self._add_endpoints()
        app: ASGIApp = self._api
        if settings.allow_origins:
            headers, methods = ["Authorization", "Content-Type"], ["GET", "POST"]
            origins = list(settings.allow_origins)
            app = CORSMiddleware(app, allow_origins=origins, allow_methods=methods, allow_headers=headers)
        paths = frozenset(path for path in self._api.openapi()["paths"]) | OPEN_PATHS
        access = Access(settings.keys, settings.rate_per_minute)
        self.app = Guard(app, settings, access, self.measurements, paths)

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        try:
            await self.engine.start()
        except Exception as error:
            self.failure = error
            raise
        self._ready = True
        try:
            yield
        finally:
            self._ready = False
            await self.engine.stop()
            await self._images.close()

    def _add_errors(self) -> None:
        """Every error in the protocol's form."""

        async def answer(_request: Request, error: Exception) -> Response:
            found = _as_api_error(error)
            return JSONResponse(found.body(), found.status, found.headers())

        async def gone(_request: Request, _error: Exception) -> Response:
            return Response(status_code=499)

        async def broken(request: Request, _error: Exception) -> Response:
            name = request.scope["state"]["request_id"]
            return JSONResponse(ApiError(500, f"an error of the server; request {name}", code="internal").body(), 500)

        self._api.add_exception_handler(Exception, broken)
        for kind in (ApiError, HTTPException, RequestValidationError):
            self._api.add_exception_handler(kind, answer)
        self._api.add_exception_handler(ClientGoneError, gone)

    def _add_endpoints(self) -> None:
        chat = Chat(self.served, self.engine, self._images, self.settings)
        typed = TypedAnswers(self.served, self.engine, self._images, self.settings)

        @self._api.post(
            "/v1/chat/completions", summary="Continue a conversation with images", response_class=JSONResponse
        )
        async def chat_completions(asked: ChatRequest, request: Request) -> Response:
            return await chat(asked, request)

        @self._api.post("/v1/extract", summary="Typed fields of images", openapi_extra=_TYPED_BODY)
        async def extract(request: Request) -> Response:
            return await typed(request)

        self._add_page(typed)

        @self._api.get("/v1/schema", summary="The task's fields as a JSON schema")
        async def schema() -> JSONResponse:
            return JSONResponse(self.served.schema)

        @self._api.get("/v1/models", summary="The model of this server")
        async def models() -> JSONResponse:
            return JSONResponse({"object": "list", "data": [self._model()]})

        @self._api.get("/v1/models/{name:path}", summary="One model", include_in_schema=False)
        async def model(name: str) -> JSONResponse:
            self.served.require(name)
            return JSONResponse(self._model())

        @self._api.get("/health", summary="Whether the process lives")
        async def health() -> JSONResponse:
            return JSONResponse({"status": "ok"})

        @self._api.get("/ready", summary="Whether it takes requests")
        async def ready() -> JSONResponse:
            waiting, in_work = self.engine.load
            return JSONResponse(
                {"status": "ready" if self._ready else "not ready", "waiting": waiting, "in_work": in_work},
                200 if self._ready else 503,
            )

        @self._api.get("/metrics", summary="Figures for Prometheus")
        async def metrics() -> Response:
            return Response(self.measurements.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

        @self._api.get("/docs", include_in_schema=False)
        async def docs() -> HTMLResponse:
            return HTMLResponse(docs_page(self._api.openapi()))

    def _add_page(self, typed: TypedAnswers) -> None:
        seconds = self.settings.timeout_s
        occlusion = Occlusion(self.served, self.engine, self.workers, typed.one_file, seconds)
        nearest = Nearest(self._nearest, self.workers, typed.one_file, seconds) if self._nearest else None

        @self._api.get("/", include_in_schema=False)
        async def page() -> HTMLResponse:
            return HTMLResponse(self._page, headers={"Content-Security-Policy": page_policy()})

        @self._api.post("/v1/occlusion", summary="Which part of an image mattered", openapi_extra=_TYPED_BODY)
        async def occlusion_map(request: Request) -> Response:
            return await occlusion(request)

        if nearest is not None:

            @self._api.post("/v1/nearest", summary="Training images that look most like one", openapi_extra=_TYPED_BODY)
            async def nearest_images(request: Request) -> Response:
                return await nearest(request)

    def _model(self) -> dict[str, Any]:
        return {"id": self.served.name, "object": "model", "created": self.served.created, "owned_by": "phisight"}


def _as_api_error(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid" or (first["type"] == "missing" and first["loc"] == ("body",)):
            return ApiError(400, "the body is no JSON", code="invalid_json")
        return invalid(error.errors())
    assert isinstance(error, HTTPException)
    found = ApiError(error.status_code, str(error.detail), code=None)
    if error.status_code == 400:
        found = ApiError(400, "the body is no JSON in UTF-8", code="invalid_json")
    return found


def docs_page(document: dict[str, Any]) -> str:
    """The endpoints on one page, without a script or anything from elsewhere."""
    from markupsafe import Markup, escape

    rows = [
        Markup("<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>").format(
            method.upper(), path, operation.get("summary", "")
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return str(
        Markup(
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            "<title>{0}</title><style>body{{font:16px/1.5 system-ui;margin:2rem auto;max-width:50rem;padding:0 1rem}}"
            "td{{padding:.2rem 1rem .2rem 0}}:root{{color-scheme:light dark}}</style><h1>{0}</h1><table>{1}</table>"
            '<p>The whole description: <a href="/openapi.json">openapi.json</a></p></html>'
        ).format(title, Markup("").join(rows))
    )
