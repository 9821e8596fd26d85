"""The application behind the listener for agents on other machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp

from windlass.errors import AzureMLException
from windlass.specs.launch import PartKey
from windlassd.control.shipped import Shipped
from windlassd.control.tokens import Tokens
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.agents import jobs, node
from windlassd.server.agents.call import Refused, TooLarge
from windlassd.server.agents.guard import HOLDER, Guard, refusal
from windlassd.server.api import agents, assets, data, interactive, registered, runs, shipping, workspace
from windlassd.server.api._http import install_error_handlers


def create_agents_app(
    control: WorkspaceControl, tokens: Tokens, describe: Callable[[], Mapping[str, Any]]
) -> tuple[ASGIApp, Sequence[APIRoute]]:
    """The guarded application, and the routes behind its guard.

    Args:
        control: The workspace.
        tokens: Those that let somebody in.
        describe: The server process's own facts.
    """
    app = FastAPI(title="Windlass agents", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    install_error_handlers(app)
    for kind, status in ((Refused, 403), (TooLarge, 413)):
        app.add_exception_handler(kind, _answer(status))
    found: list[APIRoute] = []
    for router in _routers(control, tokens, describe):
        app.include_router(router)
        found += [route for route in router.routes if isinstance(route, APIRoute)]
    return Guard(app, found, control, tokens), found


def _answer(status: int) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, AzureMLException)
        return refusal(status, problem)

    return answer


def _routers(
    control: WorkspaceControl, tokens: Tokens, describe: Callable[[], Mapping[str, Any]]
) -> Sequence[APIRouter]:
    return (
        agents.router(control), node.router(control), shipping.router(Shipped(control.core), _own_part),
        jobs.router(control, tokens, describe), runs.router(control), interactive.router(control),
        assets.router(control), registered.router(control), data.router(control),
        workspace.router(control, describe, _nobody_stops_it_here),
    )  # fmt: skip


def _own_part(request: Request, name: str, part: PartKey) -> None:
    holder = request.scope[HOLDER]
    if (name, part) != (holder.agent, holder.part):
        raise Refused("An agent may bring what its own part made, and nothing else.")


def _nobody_stops_it_here() -> None:
    raise AssertionError("no token allows that call")
