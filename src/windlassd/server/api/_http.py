"""What all routes share: JSON in and out, errors in one shape, files with ranges."""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from windlass.errors import (
    AzureMLException,
    ComputeTargetException,
    ModelNotFoundException,
    ModelPathNotFoundException,
    ServiceUnavailable,
    SnapshotTooLarge,
    UserErrorException,
)
from windlass.specs._codec import whole_text
from windlassd.control.views import LocatedFile
from windlassd.store.base import Conflict, StoreError


class _FileName(PathConvertor):
    """``{path:file}`` in a route: as ``path``, and a name may have line ends in it."""

    regex = "(?s:.*)"


register_url_convertor("file", _FileName())

_STATUS = (
    (Conflict, 409),
    (StoreError, 503),
    (ServiceUnavailable, 503),
    (SnapshotTooLarge, 413),
    (ModelNotFoundException, 404),
    (ModelPathNotFoundException, 404),
)


class Json(Response):
    """A JSON answer, made without looking at types again."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The compact JSON of ``content``. NaN is refused: values that may be NaN are mapped before."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def ready(**parts: str) -> Response:
    """A JSON answer of members that are JSON text already."""
    body = ",".join(f'"{name}":{text}' for name, text in parts.items())
    return Response(f"{{{body}}}".encode(), media_type=Json.media_type)


async def body_of(request: Request) -> Any:
    """The request's JSON object.

    Raises:
        UserErrorException: it is not one.
    """
    try:
        data = json.loads(await request.body() or b"{}")
    except ValueError as e:
        raise UserErrorException(f"The body of {request.method} {request.url.path} is not JSON: {e}") from e
    if not isinstance(data, dict):
        raise UserErrorException(f"The body of {request.method} {request.url.path} must be a JSON object.")
    return whole_text(data)


def file_response(located: LocatedFile) -> FileResponse:
    """The file's octets; ``Range`` is honoured.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    headers = {"X-Windlass-SHA256": located.sha256} if located.sha256 else {}
    return _FileAsItIs(located.path, headers)


class _FileAsItIs(FileResponse):
    """A file as it was when it was asked for.

    It is held open, as it may be moved or replaced before it is read. It may grow while it is sent, as logs do: what
    came after the length was told is left out.
    """

    def __init__(self, path: str, headers: Mapping[str, str]) -> None:
        fd = os.open(path, os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, fd)  # an answer to who has gone meanwhile is never called
        super().__init__(
            f"/proc/self/fd/{fd}", headers=headers, media_type="application/octet-stream", stat_result=os.fstat(fd)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left, ended = 0, False

        async def as_told(message: Message) -> None:
            nonlocal left, ended
            if message["type"] == "http.response.start":
                left = int(Headers(raw=message["headers"])["content-length"])
            elif ended:
                return
            else:
                body = message["body"][:left]
                left -= len(body)
                ended = not (left and message["more_body"])
                message = {**message, "body": body, "more_body": not ended}
            await send(message)

        try:
            await super().__call__(scope, receive, as_told)
        finally:
            self._close()


def event_stream(events: AsyncIterator[tuple[str, Any]]) -> StreamingResponse:
    """Server-sent events; None as data makes a keep-alive comment."""

    async def lines() -> AsyncIterator[bytes]:
        async for name, data in events:
            if data is None:
                yield b": keep-alive\n\n"
            else:
                yield f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error as ``{"error": {"code", "message"}}``."""

    @app.exception_handler(AzureMLException)
    async def ours(request: Request, problem: AzureMLException) -> Response:
        absent = isinstance(problem, (ComputeTargetException, UserErrorException)) and request.method == "GET"
        status = next((s for kind, s in _STATUS if isinstance(problem, kind)), 404 if absent else 400)
        if problem.error_code == "conflict":
            status = 409
        return error(status, problem.error_code, problem.message)

    @app.exception_handler(HTTPException)
    async def http(request: Request, problem: HTTPException) -> Response:
        return error(problem.status_code, "user_error", f"{request.method} {request.url.path}: {problem.detail}")

    @app.exception_handler(OSError)
    async def disk(request: Request, problem: OSError) -> Response:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = ". Free some space (`windlass run delete` works on a full disk) and try again." if full else ""
        return error(503, "service_unavailable", f"The server could not use its disk: {problem}{way_out}")

    @app.exception_handler(KeyError)
    @app.exception_handler(TypeError)
    @app.exception_handler(ValueError)
    async def junk(request: Request, problem: Exception) -> Response:
        message = f"{request.method} {request.url.path} does not fit the API ({type(problem).__name__}: {problem})."
        return error(400, "user_error", message)


def error(status: int, code: str, message: str) -> Json:
    """The one error shape."""
    return Json({"error": {"code": code, "message": message}}, status_code=status)
