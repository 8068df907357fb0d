"""``/v1/extract``: images of one thing to its typed fields, with confidence and interval."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from phisight.serve.delivery import Deadline, EventStream, begun, while_there
from phisight.serve.engine.dispatch import Engine
from phisight.serve.engine.job import Delta, Ended, Job
from phisight.serve.image_inputs import ImageInputs
from phisight.serve.protocol.api_error import ApiError, invalid, refused
from phisight.serve.protocol.typed_request import TypedRequest
from phisight.serve.serve_settings import ServeSettings
from phisight.serve.served_model import ServedModel

_FORM_FIELDS = {"model", "stream"}
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


class TypedAnswers:
    """The endpoint."""

    def __init__(self, served: ServedModel, engine: Engine, images: ImageInputs, settings: ServeSettings) -> None:
        self._served, self._engine, self._images, self._settings = served, engine, images, settings

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        deadline = Deadline(self._settings.timeout_s)
        files, stream = await while_there(request, self.files_of(request), deadline)
        job = self._job(files, request.state.client, stream=stream)
        self._engine.submit(job)
        try:
            if stream:
                return EventStream(await while_there(request, begun(self._streamed(job, request)), deadline), deadline)
            return JSONResponse(await while_there(request, self._whole(job, request), deadline))
        except BaseException:
            self._engine.cancel(job)
            raise

    async def files_of(self, request: Request) -> tuple[list[bytes], bool]:
        """Image files of a request, multipart or JSON, and whether its answer is streamed."""
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await self._form(request)
        asked = await typed_request(request)
        self._served.require(asked.model)
        urls = [(f"images[{index}]", url) for index, url in enumerate(asked.images)]
        return await self._images.files(urls), asked.stream

    async def one_file(self, request: Request) -> bytes:
        """The only image file of a request."""
        files, _ = await self.files_of(request)
        if len(files) != 1:
            raise ApiError(
                400, f"images: {len(files)} of them; one is looked at", param="images", code="too_many_images"
            )
        return files[0]

    async def _form(self, request: Request) -> tuple[list[bytes], bool]:
        most = self._settings.max_images
        try:
            form = await request.form(max_files=most, max_fields=16, max_part_size=self._settings.caps.max_image_bytes)
        except MultiPartException as error:
            raise ApiError(400, f"the form cannot be read: {error.message}", code="invalid_form") from None
        except Exception as error:
            if getattr(error, "status_code", None) != 400:
                raise
            detail = str(getattr(error, "detail", "not multipart/form-data"))
            raise ApiError(400, f"the form cannot be read: {detail}", code="invalid_form") from None
        files: list[bytes] = []
        values: dict[str, str] = {}
        try:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if name not in ("image", "images", "file", "files"):
                        raise refused(name[:60], "is no field of this form; files are called image")
                    files.append(await value.read())
                elif name in _FORM_FIELDS:
                    values[name] = value
                else:
                    raise refused(name[:60], "is no field of this form")
        finally:
            await form.close()
        if not files:
            raise ApiError(400, "image: the form holds no file", param="image", code="missing_image")
        self._served.require(values.get("model"))
        stream = _TRUTHS.get(values.get("stream", "false").lower())
        if stream is None:
            raise ApiError(400, "stream: true or false", param="stream", code="invalid_value")
        return files, stream

    def _job(self, files: list[bytes], client: str, *, stream: bool) -> Job:
        served = self._served
        return Job(client, served.question(len(files)), files, [served.decoding()], stream=stream)

    async def _whole(self, job: Job, request: Request) -> dict[str, Any]:
        return self._answer(await job.ended(), job, request)

    async def _streamed(self, job: Job, request: Request) -> AsyncGenerator[Any, None]:
        """Pieces of the text as written, then the fields."""
        try:
            async for event in job.every_event():
                if isinstance(event, Delta):
                    yield {"object": "extraction.delta", "delta": event.text}
                else:
                    yield self._answer(event, job, request)
            yield "[DONE]"
        finally:
            self._engine.cancel(job)

    def _answer(self, event: Ended, job: Job, request: Request) -> dict[str, Any]:
        answer = self._served.reader.read(event.completion)
        usage = job.usage(len(event.completion.ids))
        request.state.log.update(usage)
        return {
            "id": f"extract-{uuid.uuid4().hex}",
            "object": "extraction",
            "created": int(time.time()),
            "model": self._served.name,
            "fields": self._served.task.as_json(dict(answer.items())) if answer.ok else None,
            "confidence": answer.confidence,
            "overall_confidence": answer.overall_confidence,
            "interval": {name: list(ends) for name, ends in answer.interval.items()},
            **({} if answer.unfamiliar is None else {"unfamiliar": answer.unfamiliar}),
            "text": answer.text,
            "error": answer.error,
            "usage": usage,
        }


async def typed_request(request: Request) -> TypedRequest:
    """The JSON of a request; ApiError names the first thing that is wrong."""
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is no JSON in UTF-8", code="invalid_json") from None
    try:
        return TypedRequest.model_validate(values)
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False, include_context=False)) from None
