"""What all routes share: JSON in and out, errors in one shape, files with ranges."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

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
    """The file's octets; ``Range`` is honoured."""
    headers = {"X-Windlass-SHA256": located.sha256} if located.sha256 else {}
    return FileResponse(located.path, media_type="application/octet-stream", headers=headers)


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
        return error(503, "service_unavailable", f"The server could not use its disk: {problem}")

    @app.exception_handler(KeyError)
    @app.exception_handler(TypeError)
    @app.exception_handler(ValueError)
    async def junk(request: Request, problem: Exception) -> Response:
        message = f"{request.method} {request.url.path} does not fit the API ({type(problem).__name__}: {problem})."
        return error(400, "user_error", message)


def error(status: int, code: str, message: str) -> Json:
    """The one error shape."""
    return Json({"error": {"code": code, "message": message}}, status_code=status)
