"""From a context to an answer: HTML by a template, or the same as JSON."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from windlass.specs._codec import to_wire
from windlass.specs.status import RunStatus
from windlassd.server.web import present
from windlassd.server.web.assets import Assets
from windlassd.server.web.contexts import ErrorPage

TWIN = ".json"


class Renderer:
    """The templates and what they may call. Safe to call from any thread."""

    def __init__(self, assets: Assets) -> None:
        self.assets = assets
        # Always escaped, whatever the template is called; an unknown name is an error and not an empty place.
        self._templates = Environment(
            loader=PackageLoader("windlassd.server.web"),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(asset=assets.url, p=present, statuses=tuple(RunStatus))

    def answer(self, request: Request, template: str, page: Any, status: int = 200) -> Response:
        """``page`` (a frozen context) as the caller asked for it."""
        if wants_json(request):
            return json_response(page, status)
        return _html(self._templates.get_template(template).render(page=page), status)

    def error(self, request: Request, page: ErrorPage) -> Response:
        """An error in the one shape that all errors have."""
        if wants_json(request):
            return json_response({"error": {"code": page.code, "message": page.message}}, page.status)
        return _html(self._templates.get_template("error.html").render(page=page), page.status)


def _html(text: str, status: int) -> HTMLResponse:
    return HTMLResponse(text.encode("utf-8", "replace"), status)  # a log may hold what no encoding takes


def wants_json(request: Request) -> bool:
    """True when the address ends with ``.json`` or JSON is accepted and HTML is not."""
    accept = request.headers.get("accept", "")
    return request.url.path.endswith(TWIN) or ("application/json" in accept and "text/html" not in accept)


def json_response(value: Any, status: int = 200) -> Response:
    """``value`` (of JSON's kinds or dataclasses) as JSON; NaN and infinities become the wire's strings."""
    text = json.dumps(present.json_ready(to_wire(value)), ensure_ascii=False, allow_nan=False)
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")
