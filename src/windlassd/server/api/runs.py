"""Routes of runs, their files, metrics and streams."""

from __future__ import annotations

import asyncio
import json

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, StreamingResponse

from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.run import RunSpec
from windlass.specs.status import RunStatus
from windlassd.control import submit
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of, event_stream, file_response

_FLUSH_S = 60.0
_LIMIT = 1000


def router(control: WorkspaceControl) -> APIRouter:
    """The routes under ``/v1/runs``."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/runs")
    async def create(request: Request) -> Json:
        body = await body_of(request)
        spec = RunSpec.from_wire(body["spec"])
        if body.get("dry_run"):
            return Json(submit.describe(await control.plan(spec)))
        return Json(to_wire(await control.submit(spec, body.get("request_id"))))

    @routes.get("/runs")
    def listing(
        experiment: str | None = None,
        limit: int = 100,
        before: str | None = None,
        parent: str | None = None,
        children: bool = False,
        request: Request = None,  # type: ignore[assignment]
    ) -> Json:
        statuses = [_status(s) for s in request.query_params.getlist("status")]
        tags = [_tag(t) for t in request.query_params.getlist("tag")]
        runs, more = control.list_runs(
            experiment=experiment, statuses=statuses, tags=tags, limit=max(1, min(limit, _LIMIT)), before=before,
            parent=parent, include_children=children,
        )  # fmt: skip
        return Json({"runs": [to_wire(r) for r in runs], "more": more})

    @routes.get("/runs/{run_id}")
    def get(run_id: str) -> Json:
        return Json(to_wire(control.get_run(run_id)))

    @routes.patch("/runs/{run_id}")
    async def patch(run_id: str, request: Request) -> Json:
        return Json(to_wire(await control.patch(run_id, await body_of(request))))

    @routes.post("/runs/{run_id}/cancel")
    async def cancel(run_id: str) -> Json:
        return Json(to_wire(await control.cancel(run_id)))

    @routes.post("/runs/{run_id}/flush")
    async def flush(run_id: str, request: Request) -> Json:
        body = await body_of(request)
        return Json({"acked": await _acknowledged(control, run_id, body["spool"], int(body["offset"]))})

    @routes.get("/runs/{run_id}/metrics")
    def metrics(run_id: str, name: str | None = None, points: int | None = None) -> Json:
        return Json({"metrics": control.metrics(run_id, name, points)})

    @routes.get("/runs/{run_id}/files")
    def files(run_id: str) -> Json:
        return Json({"files": [dict(f) for f in control.files(run_id)]})

    @routes.get("/runs/{run_id}/files/{path:path}")
    def file(run_id: str, path: str) -> FileResponse:
        return file_response(control.locate(run_id, path))

    @routes.put("/runs/{run_id}/files/{path:path}")
    async def upload(run_id: str, path: str, request: Request) -> Json:
        return Json(await control.run_files.upload(run_id, path, request.stream()))

    @routes.get("/runs/{run_id}/stream")
    async def stream(run_id: str, logs: bool = False, offsets: str = "{}") -> StreamingResponse:
        return event_stream(control.run_stream(run_id, logs=logs, offsets=json.loads(offsets)))

    @routes.get("/stream")
    async def all_runs(experiment: str | None = None) -> StreamingResponse:
        return event_stream(control.runs_stream(experiment))

    return routes


async def _acknowledged(control: WorkspaceControl, run_id: str, spool: str, offset: int) -> int:
    """Wait until the spool is in the history up to ``offset``."""
    deadline = asyncio.get_running_loop().time() + _FLUSH_S
    with control.core.bus.subscribe(run_id) as subscription:
        while True:
            acked = control.core.read(lambda tx: tx.acked(run_id, spool))
            left = deadline - asyncio.get_running_loop().time()
            if acked >= offset:
                return acked
            if left <= 0 or control.core.read(lambda tx: tx.get_run(run_id)).status.final:
                raise ServiceUnavailable(
                    f"{offset - acked} bytes of metrics of {run_id} have not arrived in {_FLUSH_S:g} s. They are safe "
                    "on the node's disk and are sent when its agent can reach the server."
                )
            await subscription.wait(left)


def _status(text: str) -> RunStatus:
    try:
        return RunStatus(text)
    except ValueError as e:
        known = ", ".join(s.value for s in RunStatus)
        raise UserErrorException(f"{text!r} is no status of a run; they are {known}.") from e


def _tag(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None
