"""Routes of agents."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from windlass.specs.launch import PartKey
from windlassd.control.agents import Hello
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of


def router(control: WorkspaceControl) -> APIRouter:
    """The routes under ``/agent/v1``."""
    routes = APIRouter(prefix="/agent/v1/{name}")

    @routes.post("/orders")
    async def orders(name: str, request: Request) -> StreamingResponse:
        body = await body_of(request)
        held = {_part(entry) for entry in body["runs"]}
        now = time.time()
        said = Hello(int(body["pid"]), held, int(body.get("protocol", 1)), str(body.get("version", "an early one")),
                     float(body.get("time", now)) - now)  # fmt: skip
        ended = [key for key in held if _is_given_up(control, key)]

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
        return Json({"acked": await control.events.ingest(run_id, spool, offset, await request.body(), last, name)})

    return routes


def _part(entry: Sequence[Any]) -> PartKey:
    """A part as an agent names it: without a rank before protocol 4."""
    run_id, attempt, *rank = entry
    return (str(run_id), int(attempt), int(rank[0]) if rank else 0)


def _is_given_up(control: WorkspaceControl, part: PartKey) -> bool:
    """True when its run has ended, or another attempt at it is under way."""
    record = control.core.read(lambda tx: tx.find_run(part[0]))
    return record is None or record.status.final or record.attempt > part[1]
