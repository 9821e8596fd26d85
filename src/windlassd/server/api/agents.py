"""Routes of agents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from windlassd.control.agents import Hello
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of


def router(control: WorkspaceControl) -> APIRouter:
    """The routes under ``/agent/v1``."""
    routes = APIRouter(prefix="/agent/v1/{name}")

    @routes.post("/orders")
    async def orders(name: str, request: Request) -> StreamingResponse:
        body = await body_of(request)
        held = {(run_id, attempt) for run_id, attempt in body["runs"]}
        said = Hello(int(body["pid"]), held, int(body.get("protocol", 1)), str(body.get("version", "an early one")))
        ended = [key for key in held if _has_ended(control, key[0])]

        async def lines() -> AsyncIterator[bytes]:
            async for order in control.hub.orders(name, said, ended):
                yield json.dumps(order).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @routes.post("/events")
    async def events(name: str, request: Request) -> Json:
        await control.events.take(name, (await body_of(request))["events"])
        return Json({})

    @routes.post("/spool")
    async def spool(name: str, request: Request, run_id: str, spool: str, offset: int, last: bool = False) -> Json:
        return Json({"acked": await control.events.ingest(run_id, spool, offset, await request.body(), last)})

    return routes


def _has_ended(control: WorkspaceControl, run_id: str) -> bool:
    record = control.core.read(lambda tx: tx.find_run(run_id))
    return record is None or record.status.final
