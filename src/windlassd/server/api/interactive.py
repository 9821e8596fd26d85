"""Routes of runs that a client's process holds: begin, line, spool, end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from windlass.errors import UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.run import Reason
from windlass.specs.status import RunStatus
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of


def router(control: WorkspaceControl) -> APIRouter:
    """The routes of interactive runs and children."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/interactive")
    async def begin(request: Request) -> Json:
        record, spool = await control.begin_interactive(await body_of(request))
        return Json({"run": to_wire(record), "spool": spool})

    @routes.post("/clients/{line}/alive")
    async def alive(line: str, request: Request) -> StreamingResponse:
        body = await body_of(request)
        runs = [str(run_id) for run_id in body.get("runs", [])]

        async def lines() -> AsyncIterator[bytes]:
            async for message in control.interactive.hold(line, runs, body.get("owner")):
                yield json.dumps(message).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @routes.post("/clients/{line}/runs")
    async def take_over(line: str, request: Request) -> Json:
        body = await body_of(request)
        return Json({"spool": await control.interactive.take_over(line, str(body["run_id"]), body.get("owner"))})

    @routes.post("/runs/{run_id}/spool")
    async def spool(run_id: str, request: Request, spool: str, offset: int) -> Json:
        return Json({"acked": await control.events.ingest(run_id, spool, offset, await request.body())})

    @routes.post("/runs/{run_id}/end")
    async def end(run_id: str, request: Request) -> Json:
        body = await body_of(request)
        try:
            status = RunStatus(body["status"])
        except ValueError as e:
            raise UserErrorException(f"{body['status']!r} is no status of a run.") from e
        return Json(to_wire(await control.interactive.end(run_id, status, Reason.from_wire(body.get("reason")))))

    return routes
