"""Calls of jobs on other machines that are answered otherwise than those of this machine's clients.

The server's paths are not theirs, and theirs are not the server's: nothing of this machine is copied or looked at by a
path that a job names. What names a job gives (lines, requests) are its own, whatever others call theirs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from windlass.specs._codec import to_wire
from windlass.specs.run import RunSpec
from windlassd.control import submit
from windlassd.control.kinds import refuse_misfits
from windlassd.control.tokens import Holder, Tokens
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.agents.guard import HOLDER
from windlassd.server.api._http import Json, body_of

_TOLD = ("version", "protocol", "workspace", "web")


def router(control: WorkspaceControl, tokens: Tokens, describe: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """Its routes; they come before those of the same paths that other clients have."""
    routes = APIRouter(prefix="/v1")
    _server(routes, describe)
    _runs(routes, control, tokens)
    _children(routes, control)
    _copies(routes)
    return routes


def _server(routes: APIRouter, describe: Callable[[], Mapping[str, Any]]) -> None:
    @routes.get("/server")
    async def server() -> Json:
        known = describe()
        return Json({name: known[name] for name in _TOLD})


def _runs(routes: APIRouter, control: WorkspaceControl, tokens: Tokens) -> None:
    @routes.post("/runs")
    async def create(request: Request) -> Json:
        body = await body_of(request)
        refuse_misfits(RunSpec, body["spec"], "spec")
        spec = RunSpec.from_wire(body["spec"])
        if body.get("dry_run"):
            return Json(submit.describe(await control.plan(spec)))
        record = await control.submit(spec, _own(request, body.get("request_id")))
        if spec.parent_id is None:
            tokens.note_submitted(_holder(request).agent, record.id)
        return Json(to_wire(record))

    @routes.post("/models")
    async def register(request: Request) -> Json:
        body = await body_of(request)
        asked = {**body, "request_id": _own(request, body.get("request_id"))}
        return Json(to_wire(await control.run_models.register(asked)))


def _children(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.post("/interactive")
    async def begin(request: Request) -> Json:
        body = await body_of(request)
        asked = {
            **body, "request_id": _own(request, body["request_id"]), "line": _own(request, body.get("line")),
            "owner": _owner(request), "folder": None,
        }  # fmt: skip
        record, _ = await control.begin_interactive(asked)
        return Json({"run": to_wire(record), "spool": None})

    @routes.post("/clients/{line}/alive")
    async def alive(line: str, request: Request) -> StreamingResponse:
        runs = [str(run_id) for run_id in (await body_of(request)).get("runs", [])]

        async def lines() -> AsyncIterator[bytes]:
            async for message in control.interactive.hold(str(_own(request, line)), runs, _owner(request)):
                yield json.dumps(message).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @routes.post("/clients/{line}/runs")
    async def take_over(line: str, request: Request) -> Json:
        run_id = str((await body_of(request))["run_id"])
        await control.interactive.take_over(str(_own(request, line)), run_id, _owner(request))
        return Json({"spool": None})


def _copies(routes: APIRouter) -> None:
    async def none_is_here(request: Request) -> Json:
        return Json({"files": [None for _ in (await body_of(request))["files"]]})

    for path in ("/runs/{run_id}/copies", "/datastores/{name}/copies", "/blob-copies"):
        routes.add_api_route(path, none_is_here, methods=["POST"])


def _holder(request: Request) -> Holder:
    found: Holder = request.scope[HOLDER]
    return found


def _own(request: Request, name: Any) -> str | None:
    """A name that a job gave, as one that no other can give."""
    return None if name is None else f"{_holder(request).agent}:{name}"


def _owner(request: Request) -> Mapping[str, Any]:
    """Who holds a child, as ``Interactive`` knows it: a process that lives as long as the run of the job."""
    return {"run": _holder(request).run_id}
