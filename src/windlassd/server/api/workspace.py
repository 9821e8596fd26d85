"""Routes of the workspace and its server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request

from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of
from windlassd.store.base import Conflict


def router(control: WorkspaceControl, describe: Callable[[], Mapping[str, Any]], stop: Callable[[], None]) -> APIRouter:
    """The routes under ``/v1/server`` and ``/v1/workspace``.

    Args:
        control: The workspace.
        describe: The server process's own facts.
        stop: Ends the server process soon.
    """
    routes = APIRouter(prefix="/v1")

    @routes.get("/server")
    async def server() -> Json:
        return Json({**describe(), "active_runs": control.active(), "agents": control.hub.connected()})

    @routes.post("/server/stop")
    async def stop_server(request: Request) -> Json:
        body = await body_of(request)
        active = [r.id for r in control.core.read(lambda tx: tx.active_runs())]
        if active and not body.get("force"):
            count = "1 run has" if len(active) == 1 else f"{len(active)} runs have"
            named = ", ".join(active[:3]) + (", …" if len(active) > 3 else "")
            raise Conflict(
                f"{count} not ended ({named}). Wait, cancel, or stop with --force: then they are canceled first."
            )
        await control.cancel_all(active)
        stop()
        return Json({"stopping": True})

    @routes.post("/login-codes")
    async def login_code(request: Request) -> Json:
        code = control.logins.issue(str((await body_of(request)).get("path", "/runs")))
        return Json({"url": f"{describe()['web']}/login?code={code}"})

    @routes.get("/workspace")
    def workspace() -> Json:
        return Json(control.workspace())

    @routes.put("/workspace")
    async def put_workspace(request: Request) -> Json:
        return Json(await control.describe_workspace(await body_of(request)))

    @routes.get("/experiments")
    def experiments() -> Json:
        return Json({"experiments": [dict(e) for e in control.experiments()]})

    return routes
