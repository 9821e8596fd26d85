"""The socket's application: all routes of clients and agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api import agents, assets, data, doctor, interactive, keeping, registered, runs, workspace
from windlassd.server.api._http import install_error_handlers


def create_api_app(
    control: WorkspaceControl, describe: Callable[[], Mapping[str, Any]], stop: Callable[[], None]
) -> FastAPI:
    """The application behind the workspace's Unix socket; whoever reaches the socket is its owner."""
    app = FastAPI(title="Windlass", docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(app)
    # A call is matched against one route after the other: those that come most often are first.
    app.include_router(agents.router(control))
    app.include_router(runs.router(control))
    app.include_router(interactive.router(control))
    app.include_router(assets.router(control))
    app.include_router(registered.router(control))
    app.include_router(data.router(control))
    app.include_router(keeping.router(control))
    app.include_router(workspace.router(control, describe, stop))
    app.include_router(doctor.router(control))
    return app
