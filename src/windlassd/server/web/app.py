"""The browser's side of the server: pages on 127.0.0.1, behind a session (DESIGN decisions 1 and 11)."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from windlass.errors import AzureMLException
from windlassd.server.backend import Backend
from windlassd.server.web.assets import Assets
from windlassd.server.web.contexts import ErrorPage, WelcomePage
from windlassd.server.web.guard import Guard
from windlassd.server.web.pages import Pages
from windlassd.server.web.render import Renderer
from windlassd.server.web.sessions import Sessions, cookie_name
from windlassd.server.web.streams import Streams

_STATUS = {
    "conflict": (409, "Not possible now"),
    "service_unavailable": (503, "Not available just now"),
    "bad_filter": (400, "Not understood"),
    "bad_offsets": (400, "Not understood"),
}


def create_web_app(backend: Backend, *, hosts: Sequence[str], sessions: Sessions | None = None) -> FastAPI:
    """The application that serves the pages.

    ``app.state.streams.close()``, called in its event loop, ends all open event streams: call it before the server
    waits for its connections to end.

    Args:
        backend: Answers the pages' questions.
        hosts: The values of the Host header that are ours, with port: ``("127.0.0.1:8123", "localhost:8123")``.
        sessions: Who is signed in; a new, empty one by default.
    """
    open_sessions = sessions or Sessions()
    renderer = Renderer(Assets())
    streams = Streams()
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.streams = streams
    app.add_middleware(Guard, hosts=hosts, sessions=open_sessions, renderer=renderer)
    _add_errors(app, renderer)
    _add_login(app, backend, open_sessions, renderer)
    app.add_api_route("/static/{version}/{name}", renderer.assets.response, methods=["GET"])
    app.include_router(Pages(backend, renderer, streams).router())
    return app


def _add_login(app: FastAPI, backend: Backend, sessions: Sessions, renderer: Renderer) -> None:
    @app.get("/login")
    def login(request: Request, code: str = "") -> Response:
        """Exchange a single-use code for a session.

        The answer is a page that goes on by itself, not a redirect: a redirect that began on another site (a link in
        a notebook) would not carry the SameSite=Strict cookie that it has just set.
        """
        path = backend.redeem(code) if code else None
        if path is None:
            page = ErrorPage(401, "login_code", "This link has been used", _USED, signed_in=False)
            return renderer.error(request, page)
        response = renderer.answer(request, "welcome.html", WelcomePage(_local(path)))
        response.set_cookie(
            cookie_name(request.headers["host"]),
            sessions.open(),
            max_age=int(sessions.lifetime_s),
            path="/",
            httponly=True,
            samesite="strict",
        )
        return response


_USED = (
    "A link to sign in works once, for a minute. Type `windlass open`, or `windlass run show ID --web` "
    "for one run, to get a new one."
)


def _local(path: str) -> str:
    """``path`` if it is one of this server; a code must not lead elsewhere."""
    local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if local else "/runs"


def _add_errors(app: FastAPI, renderer: Renderer) -> None:
    """Every error in one shape, as a page or as JSON."""

    @app.exception_handler(AzureMLException)
    def expected(request: Request, error: AzureMLException) -> Response:
        status, title = _STATUS.get(error.error_code, (404, "Not found"))
        if getattr(error, "transient", False):
            status, title = _STATUS["service_unavailable"]
        return renderer.error(request, ErrorPage(status, error.error_code, title, error.message, signed_in=True))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        absent = error.status_code == 404
        message = f"There is no page {request.url.path!r}." if absent else f"{request.method}: {error.detail}."
        title = "Not found" if absent else "Not possible"
        return renderer.error(request, ErrorPage(error.status_code, "user_error", title, message, signed_in=True))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        message = "; ".join(f"{e['loc'][-1]} is {e.get('input')!r}: {e['msg']}" for e in error.errors())
        return renderer.error(request, ErrorPage(400, "user_error", "Not understood", message[:500], signed_in=True))
