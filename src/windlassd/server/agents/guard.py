"""The door of the listener for agents: a token, and a row of the table, or nothing happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlass.errors import AzureMLException
from windlassd.control.tokens import Holder, Tokens
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.agents.allowed import OF_AGENTS, OF_JOBS
from windlassd.server.agents.call import Call, Refused, TooLarge
from windlassd.server.api._http import error

log = logging.getLogger(__name__)
HOLDER = "windlass.holder"
"""Where the routes find in a request's scope whom its token stands for."""
_SCHEME = "bearer "
_READ_FIRST_BYTES, _READ_FIRST_S = 64 << 10, 5.0


class Guard:
    """Serves the calls that the tables allow to the token's holder; answers every other one itself.

    Args:
        app: What serves them.
        routes: The routes of ``app``, in its order.
        control: The workspace.
        tokens: Those that let somebody in.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[APIRoute], control: WorkspaceControl, tokens: Tokens) -> None:
        self._app = app
        self._routes = routes
        self._control = control
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        holder = self._tokens.holder(_token(scope))
        if holder is None:
            await _discard_beginning(receive)
            return await _stranger()(scope, receive, send)
        if not holder.job:
            self._control.hub.called(holder.part)
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            allowed = await self._allowed(scope, receive, holder)
            await self._app({**scope, HOLDER: holder}, allowed.receive, noting)
        except (Refused, TooLarge) as problem:
            if begun:
                raise
            log.warning("%s %s of %s is refused: %s", scope["method"], scope["path"], holder.agent, problem)
            await refusal(403 if isinstance(problem, Refused) else 413, problem)(scope, receive, send)
        except AzureMLException as problem:
            if begun:
                raise
            await error(400, problem.error_code, problem.message)(scope, receive, send)

    async def _allowed(self, scope: Scope, receive: Receive, holder: Holder) -> Call:
        """The call, if the holder may make it."""
        table = OF_JOBS if holder.job else OF_AGENTS
        for route in self._routes:
            found = route.path_regex.match(scope["path"]) if scope["method"] in (route.methods or ()) else None
            if found is None:
                continue
            row = table.get((scope["method"], route.path))
            if row is None:
                break
            call = Call(self._control, holder, scope, receive, found.groupdict(), row.limit)
            await row.check(call)
            return call
        who = "job" if holder.job else "agent"
        raise Refused(f"{scope['method']} {scope['path']} is no call that {who}s on other machines may make.")


def refusal(status: int, problem: AzureMLException) -> Response:
    """The answer to a call that may not be made; what else comes over its connection is not read."""
    return _ends(error(status, problem.error_code, problem.message))


def _token(scope: Scope) -> str:
    given = Headers(scope=scope).getlist("authorization")
    if len(given) != 1 or not given[0].lower().startswith(_SCHEME):
        return ""
    return given[0][len(_SCHEME) :].strip()


def _stranger() -> Response:
    answer = error(401, "authentication", "This call needs a token that is good.")
    answer.headers["WWW-Authenticate"] = "Bearer"
    return _ends(answer)


def _ends(answer: Response) -> Response:
    answer.headers["Connection"] = "close"
    return answer


async def _discard_beginning(receive: Receive) -> None:
    """Take a short body off the line first: who is still sending it would not see the answer."""
    size = 0
    try:
        async with asyncio.timeout(_READ_FIRST_S):
            while size <= _READ_FIRST_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
