from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from windlassd.server.web.app import create_web_app
from windlassd.server.web.sessions import Sessions
from windlassd.testing.digits_workspace import digits_workspace
from windlassd.testing.fake_backend import FakeBackend

HOST = "127.0.0.1:8123"


class Browser:
    """Sends requests to an application as a browser would, and keeps its cookies. Redirects are not followed."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.cookies = httpx.Cookies()

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.send("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.send("POST", url, **options)

    def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url=f"http://{HOST}", cookies=self.cookies
            ) as client:
                answer = await client.request(method, url, **options)
                self.cookies = client.cookies
                return answer

        return asyncio.run(sent())


@dataclass(frozen=True)
class Site:
    """The pages over a workspace of digits; ``run_id`` is its run that is training."""

    backend: FakeBackend
    run_id: str
    sessions: Sessions
    app: FastAPI

    def stranger(self) -> Browser:
        """A browser that is not signed in."""
        return Browser(self.app)

    def browser(self) -> Browser:
        """A browser that is signed in."""
        client = self.stranger()
        assert client.get("/login", params={"code": self.backend.add_code("in")}).status_code == 200
        return client


@pytest.fixture
def site(tmp_path: Path) -> Site:
    backend, run_id = digits_workspace(tmp_path, time.time())
    sessions = Sessions()
    return Site(backend, run_id, sessions, create_web_app(backend, hosts=[HOST, "localhost:8123"], sessions=sessions))


@pytest.fixture
def browser(site: Site) -> Browser:
    return site.browser()
