"""Routes by which agents on other machines send the files of their parts; the listener for agents has them."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from windlass.specs.launch import PartKey
from windlassd.control.shipped import Body, Piece, Shipped
from windlassd.server.api._http import Json, body_of

BODY = "windlass.body"
"""Where a request's scope has its body, if it can be had without passing through the loop: an ``Incoming``."""
Allow = Callable[[Request, str, PartKey], None]
"""Raises unless the request may act as the agent of this name for the part."""


def router(shipped: Shipped, allow: Allow) -> APIRouter:
    """The routes under ``/agent/v1/NAME/files``."""
    routes = APIRouter(prefix="/agent/v1/{name}/files")

    def part_of(request: Request) -> PartKey:
        asked = request.query_params
        key = (asked["run_id"], int(asked["attempt"]), int(asked["rank"]))
        allow(request, request.path_params["name"], key)
        return key

    @routes.post("")
    async def piece(request: Request) -> Json:
        try:
            return Json(await shipped.add(part_of(request), _piece(request), _body(request)))
        except (ClientDisconnect, EOFError):  # what came of it is held, and nobody reads the answer
            return Json({})

    @routes.delete("")
    async def remove(request: Request) -> Json:
        return Json(await shipped.remove(part_of(request), request.query_params["path"]))

    @routes.post("/batch")
    async def batch(request: Request) -> Json:
        encoding = request.query_params.get("encoding", "")
        try:
            return Json(await shipped.put(part_of(request), encoding, _body(request)))
        except (ClientDisconnect, EOFError):
            return Json({})

    @routes.post("/settled")
    async def settled(request: Request) -> Json:
        key, told = part_of(request), await body_of(request)
        return Json(await shipped.settle(key, told["files"], bool(told.get("last"))))

    return routes


def _body(request: Request) -> Body:
    body: Body = request.scope.get(BODY) or request.stream()
    return body


def _piece(request: Request) -> Piece:
    asked = request.query_params
    return Piece(
        path=asked["path"], offset=int(asked["offset"]), total=int(asked["total"]) if "total" in asked else None,
        version=asked.get("version", ""), mode=int(asked.get("mode", 0o600)), sha256=asked.get("sha256", ""),
        encoding=asked.get("encoding", ""), zeros=int(asked.get("zeros", 0)), anew=asked.get("anew") == "1",
    )  # fmt: skip
