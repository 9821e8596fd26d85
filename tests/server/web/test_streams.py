from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from windlass.errors import ServiceUnavailable
from windlass.specs.run import Reason
from windlass.specs.status import RunStatus
from windlassd.server.web.streams import Streams, encode
from windlassd.testing.digits_workspace import DRIVER_LOG

from .conftest import HOST, Browser, Site


class Listener:
    """A browser with one open stream, spoken to directly so that it can leave when it wants."""

    def __init__(self, site: Site, path: str, query: str = "") -> None:
        token = site.sessions.open()
        headers = [(b"host", HOST.encode()), (b"cookie", f"windlass_session_8123={token}".encode())]
        self.left = asyncio.Event()
        self.text = ""
        self.ended = False
        self._news = asyncio.Event()
        self._asked = False
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": headers}
        scope |= {"scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 8123), "client": ("127.0.0.1", 5)}
        self.task = asyncio.create_task(site.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.text += message["body"].decode()
            self.ended = not message.get("more_body", False)
            self._news.set()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(10):
            while text not in self.text:
                self._news.clear()
                await self._news.wait()

    def events(self, name: str) -> list[Any]:
        blocks = [block.split("\n") for block in self.text.split("\n\n")]
        return [json.loads(b[1].removeprefix("data: ")) for b in blocks if b[0] == f"event: {name}"]


async def ends(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        await task


def test_a_finished_run_tells_all_and_ends(site: Site, browser: Browser) -> None:
    (failed, *_) = site.backend.list_runs(statuses=[RunStatus.FAILED])[0]
    answer = browser.get(f"/runs/{failed.id}/stream")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    names = [line.removeprefix("event: ") for line in answer.text.split("\n") if line.startswith("event: ")]
    assert names == ["log", "run", "end"]


def test_a_run_without_its_like_is_absent(browser: Browser) -> None:
    assert browser.get("/runs/nope/stream").status_code == 404


def test_a_stream_goes_on_from_its_offsets_and_tells_what_is_new(site: Site) -> None:
    async def watched() -> Listener:
        (log,) = [f for f in site.backend.files(site.run_id) if f["path"] == DRIVER_LOG]
        offsets = json.dumps({DRIVER_LOG: log["size"]})
        listener = Listener(site, f"/runs/{site.run_id}/stream", f"offsets={offsets}")
        await listener.until("event: run")
        site.backend.write(site.run_id, DRIVER_LOG, b"one more line\n", append=True)
        await listener.until("one more line")
        site.backend.log_metric(site.run_id, "new_metric", math.nan, 1.0)
        await listener.until("new_metric")
        site.backend.write(site.run_id, "outputs/new.txt", b"x")
        await listener.until("event: files")
        site.backend.move(site.run_id, RunStatus.COMPLETED, 9e9, Reason("completed", "Done."))
        await ends(listener.task)
        return listener

    listener = asyncio.run(watched())
    driver = [event for event in listener.events("log") if event["file"] == DRIVER_LOG]
    assert [event["text"] for event in driver] == ["one more line\n"]
    assert listener.events("metrics") == [{"names": ["new_metric"]}]
    assert listener.events("run")[-1]["status"] == "Completed" and listener.text.endswith("event: end\ndata: {}\n\n")
    assert listener.ended


@pytest.mark.parametrize("path", ["/runs/stream", "/runs/{run}/stream"])
def test_a_browser_that_leaves_leaves_nothing_behind(site: Site, path: str) -> None:
    async def left() -> None:
        listener = Listener(site, path.format(run=site.run_id))
        await listener.until(": open")
        while not site.backend._watchers:
            await asyncio.sleep(0)
        listener.left.set()
        await ends(listener.task)

    asyncio.run(left())
    assert len(site.app.state.streams) == 0 and not site.backend._watchers


@pytest.mark.parametrize("path", ["/runs/stream", "/runs/{run}/stream"])
def test_a_server_that_stops_ends_its_streams(site: Site, path: str) -> None:
    async def stopped() -> tuple[Listener, Listener]:
        first = Listener(site, path.format(run=site.run_id))
        await first.until(": open")
        site.app.state.streams.close()
        await ends(first.task)
        late = Listener(site, path.format(run=site.run_id))
        await ends(late.task)
        return first, late

    first, late = asyncio.run(stopped())
    assert first.ended and late.ended
    assert len(site.app.state.streams) == 0 and not site.backend._watchers


def test_runs_tell_of_each_change_of_their_experiment(site: Site) -> None:
    async def watched() -> Listener:
        listener = Listener(site, "/runs/stream", "experiment=digits")
        await listener.until(": open")
        while not site.backend._watchers:
            await asyncio.sleep(0)
        other = site.backend.list_runs(experiment="digits-sweep")[0][0]
        site.backend.move(other.id, RunStatus.RUNNING, 1.0)
        site.backend.move(site.run_id, RunStatus.FINALIZING, 2.0)
        await listener.until("Finalizing")
        listener.left.set()
        await ends(listener.task)
        return listener

    assert {event["experiment"] for event in asyncio.run(watched()).events("run")} == {"digits"}


def test_a_silent_stream_says_that_it_is_there(site: Site) -> None:
    async def silent() -> None:
        site.backend._keep_alive_s = 0.001
        listener = Listener(site, "/runs/stream")
        await listener.until(": keep-alive\n\n: keep-alive\n\n")
        listener.left.set()
        await ends(listener.task)

    asyncio.run(silent())


def test_a_stream_that_fails_ends_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def failing() -> AsyncIterator[tuple[str, Any]]:
        yield "files", {}
        raise ServiceUnavailable("The disk is full.")

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Streams().response(failing())({}, receive, send))
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert "The disk is full." in caplog.text


def test_text_cannot_forge_an_event() -> None:
    coded = encode("log", {"text": "\n\nevent: end\ndata: {}\n\n\r\u2028", "value": math.inf}).decode()
    assert coded.count("\n") == 3 and "\r" not in coded
    assert json.loads(coded.split("data: ", 1)[1])["value"] == "Infinity"
