"""Routes of runs, their files, metrics and streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from itertools import chain

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.run import RunSpec
from windlass.specs.status import RunStatus
from windlassd.control import submit
from windlassd.control.filters import metric_filter
from windlassd.control.kinds import refuse_misfits
from windlassd.control.metrics import of_run
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of, event_stream, file_response, ready

_FLUSH_S = 60.0
_LIMIT = 1000
_AT_ONCE = 1 << 16


def router(control: WorkspaceControl) -> APIRouter:
    """The routes under ``/v1/runs``."""
    routes = APIRouter(prefix="/v1")
    _lists(routes, control)
    _one(routes, control)
    _files(routes, control)
    _streams(routes, control)
    return routes


def _lists(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.post("/runs")
    async def create(request: Request) -> Json:
        body = await body_of(request)
        refuse_misfits(RunSpec, body["spec"], "spec")
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
    ) -> Response:
        statuses = [status_named(s) for s in request.query_params.getlist("status")]
        tags = [_tag(t) for t in request.query_params.getlist("tag")]
        metrics = [metric_filter(m) for m in request.query_params.getlist("metric")]
        lines, more = control.list_lines(
            experiment=experiment, statuses=statuses, tags=tags, metrics=metrics, limit=max(1, min(limit, _LIMIT)),
            before=before, parent=parent, include_children=children,
        )  # fmt: skip
        return ready(runs=f"[{','.join(lines)}]", more=json.dumps(more))

    @routes.get("/run-ids")
    def run_ids(like: str) -> Json:
        return Json({"ids": control.core.read(lambda tx: tx.run_ids_like(like))})

    @routes.get("/compare")
    def compare(request: Request) -> Response:
        run_ids = request.query_params.getlist("run")
        if not 1 <= len(run_ids) <= _LIMIT:
            raise UserErrorException(f"{len(run_ids)} runs cannot be compared: name 1 to {_LIMIT}, as run=ID&run=ID.")
        lines, summaries = control.compare(run_ids)
        metrics = {run_id: of_run(summaries.get(run_id, ())) for run_id in run_ids}
        return ready(runs=f"[{','.join(lines)}]", metrics=json.dumps(metrics, allow_nan=False, separators=(",", ":")))


def _one(routes: APIRouter, control: WorkspaceControl) -> None:
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
    def metrics(run_id: str, name: str | None = None, points: int | None = None) -> Response:
        return _in_pieces(chain(['{"metrics":'], control.metrics_json(run_id, name, points), ["}"]))


def _files(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.get("/runs/{run_id}/files")
    def files(run_id: str) -> Json:
        return Json({"files": [dict(f) for f in control.files(run_id)]})

    @routes.get("/runs/{run_id}/files/{path:file}")
    def file(run_id: str, path: str) -> FileResponse:
        try:
            return file_response(control.locate(run_id, path))
        except FileNotFoundError:  # the run ended in between, and its outputs were moved
            return file_response(control.locate(run_id, path))

    @routes.put("/runs/{run_id}/files/{path:file}")
    async def upload(run_id: str, path: str, request: Request) -> Json:
        return Json(await control.run_files.upload(run_id, path, request.stream()))

    @routes.post("/runs/{run_id}/copies")
    async def copy(run_id: str, request: Request) -> Json:
        return Json({"files": await control.run_files.copy(run_id, (await body_of(request))["files"])})


def _streams(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.get("/runs/{run_id}/stream")
    async def stream(run_id: str, logs: bool = False, offsets: str = "{}") -> StreamingResponse:
        return event_stream(control.run_stream(run_id, logs=logs, offsets=_offsets(offsets)))

    @routes.get("/stream")
    async def all_runs(experiment: str | None = None) -> StreamingResponse:
        return event_stream(control.runs_stream(experiment))


def _in_pieces(text: Iterator[str]) -> Response:
    """JSON text; a long one as it comes, a short one at once, as each piece of a stream is a change of threads."""
    begun, length = [], 0
    for piece in text:
        begun.append(piece)
        length += len(piece)
        if length > _AT_ONCE:
            return StreamingResponse(chain(begun, text), media_type=Json.media_type)
    return Response("".join(begun), media_type=Json.media_type)


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


def status_named(text: str) -> RunStatus:
    """The status of that name; raises UserErrorException when there is none."""
    try:
        return RunStatus(text)
    except ValueError as e:
        known = ", ".join(s.value for s in RunStatus)
        raise UserErrorException(f"{text!r} is no status of a run; they are {known}.") from e


def _offsets(text: str) -> Mapping[str, int]:
    try:
        seen = json.loads(text)
    except ValueError:
        seen = None
    if not isinstance(seen, dict) or not all(type(offset) is int and offset >= 0 for offset in seen.values()):
        raise UserErrorException(
            f"offsets={text[:80]!r} must be a JSON object of log file names and the bytes of each already seen, such "
            'as {"azureml-logs/70_driver_log.txt": 1024}.'
        )
    return seen


def _tag(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None
