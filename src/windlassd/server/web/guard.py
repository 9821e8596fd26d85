"""The door: which requests get to the pages at all, and the headers that every answer carries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlassd.server.web.contexts import ErrorPage
from windlassd.server.web.render import Renderer
from windlassd.server.web.sessions import Sessions, cookie_name

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, Cookie",
}
_OPEN_TO_ALL = ("/login", "/static/")
_SAFE = ("GET", "HEAD")
_HOW_TO_GET_IN = (
    "This page belongs to a Windlass workspace on this computer, and this browser is not signed in to it. "
    "In a terminal, type `windlass open` for all runs or `windlass run show ID --web` for one: "
    "each opens a page that is signed in."
)

_ANOTHER_PAGE = "This change was asked for by another page, so nothing was done. Open the run's page and try there."


class Guard:
    """Lets a request through when its Host, session and Origin are right; answers every other one itself."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], sessions: Sessions, renderer: Renderer) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._sessions = sessions
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request, started = Request(scope), False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(request)
        if refusal:
            return await self._renderer.error(request, refusal)(scope, receive, send_guarded)
        try:
            await self._app(scope, receive, send_guarded)
        except Exception:
            # The edge: whatever a page failed with is logged, and its reader sees a page that says so.
            logger.exception("%s %s failed", request.method, request.url.path)
            if started:
                raise
            await self._renderer.error(request, _FAILED)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> ErrorPage | None:
        host = request.headers.get("host", "").lower()
        if host not in self._hosts:
            # A name that an attacker's DNS points at 127.0.0.1 must not read our pages.
            return ErrorPage(421, "wrong_host", "Wrong address", _wrong_host(self._hosts), signed_in=False)
        if request.url.path.startswith(_OPEN_TO_ALL):
            return None
        if not self._sessions.holds(request.cookies.get(cookie_name(host))):
            return ErrorPage(401, "not_signed_in", "Not signed in", _HOW_TO_GET_IN, signed_in=False)
        if request.method not in _SAFE and not _from_our_page(request, host):
            return ErrorPage(403, "cross_origin", "Refused", _ANOTHER_PAGE, signed_in=False)
        return None


_FAILED = ErrorPage(
    500,
    "service_unavailable",
    "Something broke",
    "The server failed while making this page; nothing of your runs is lost. "
    "`windlass server status` names its log, where the reason stands.",
    signed_in=True,
)


def _from_our_page(request: Request, host: str) -> bool:
    """True when the browser says that a page of ours asks.

    Under ``no-referrer`` a plain form sends ``Origin: null``; then only the fetch metadata, which no page can set,
    tells ours from others.
    """
    origin = request.headers.get("origin", "null").lower()
    if origin == "null":
        return request.headers.get("sec-fetch-site") == "same-origin"
    return origin == f"http://{host}"


def _wrong_host(hosts: frozenset[str]) -> str:
    return f"This server answers only under {' and '.join(sorted(hosts))}. Type `windlass open` to get there."
