"""Routes of what is kept and for how long: deleting runs, pruning, usage, backups."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from windlass.errors import UserErrorException
from windlassd.control.deletions import check_ids
from windlassd.control.retention import Old
from windlassd.control.usage import usage
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of
from windlassd.server.api.runs import status_named


def router(control: WorkspaceControl) -> APIRouter:
    """Its routes."""
    routes = APIRouter(prefix="/v1")

    @routes.delete("/runs/{run_id}")
    async def delete_run(run_id: str) -> Json:
        return Json(dict(await control.deletions.runs([run_id])))

    @routes.post("/run-deletions")
    async def delete_runs(request: Request) -> Json:
        return Json(dict(await control.deletions.runs(check_ids((await body_of(request))["runs"]))))

    @routes.post("/workspace/prune")
    async def prune(request: Request) -> Json:
        body = await body_of(request)
        wanted = _old(body)
        plan = control.retention.plan if body.get("dry_run") else control.retention.prune
        return Json(dict(await plan(wanted)))

    @routes.get("/workspace/usage")
    async def room() -> Json:
        return Json(await asyncio.to_thread(usage, control.core))

    @routes.post("/backups")
    async def backup(request: Request) -> StreamingResponse:
        body = await body_of(request)
        lines = control.backups.make(body["folder"], body.get("keep"))
        first = await anext(lines)  # what is refused is refused before the answer begins

        async def told() -> AsyncIterator[bytes]:
            yield json.dumps(first).encode() + b"\n"
            async for line in lines:
                yield json.dumps(line).encode() + b"\n"

        return StreamingResponse(told(), media_type="application/x-ndjson")

    return routes


def _old(body: Any) -> Old:
    before = body["before"]
    if isinstance(before, bool) or not isinstance(before, (int, float)) or not math.isfinite(before):
        raise UserErrorException(f"`before` is {before!r}; it must be a time in Unix seconds.")
    return Old(float(before), body.get("experiment"), tuple(str(status_named(s)) for s in body.get("statuses") or ()))
