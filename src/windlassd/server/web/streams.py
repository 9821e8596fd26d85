"""Server-sent events that end when the browser leaves or the server stops."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from windlass.errors import AzureMLException
from windlass.specs._codec import to_wire
from windlassd.server.web.present import json_ready

logger = logging.getLogger(__name__)

_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
Events = AsyncIterator[tuple[str, Any]]


class Streams:
    """The open streams of one server, so that it can end them: a stream would keep it from stopping."""

    def __init__(self) -> None:
        self._open: set[anyio.CancelScope] = set()
        self._closed = False

    def close(self) -> None:
        """End all streams now and at once every later one. To be called in the event loop."""
        self._closed = True
        for scope in list(self._open):
            scope.cancel()

    def __len__(self) -> int:
        return len(self._open)

    def response(self, events: Events) -> Response:
        """An answer that passes ``events`` on."""
        return _EventStream(events, self)

    async def run(self, *parts: Callable[[], Awaitable[None]]) -> None:
        """Run all parts until the first of them ends or ``close`` is called."""
        if self._closed:
            return
        async with anyio.create_task_group() as group:
            self._open.add(group.cancel_scope)

            async def until_end(part: Callable[[], Awaitable[None]]) -> None:
                await part()
                group.cancel_scope.cancel()

            try:
                for part in parts:
                    group.start_soon(until_end, part)
                await anyio.sleep_forever()
            finally:
                self._open.discard(group.cancel_scope)


class _EventStream(Response):
    def __init__(self, events: Events, streams: Streams) -> None:
        self._events = events
        self._streams = streams
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = False

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True

        async def pump() -> None:
            # Both of our implementations are generators; closing them is what lets go of their subscriptions.
            async with aclosing(cast(Any, self._events)):
                async for event, data in self._events:
                    await send({"type": "http.response.body", "body": encode(event, data), "more_body": True})

        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
        try:
            await self._streams.run(pump, watch)
        except* OSError:
            gone = True
        except* AzureMLException as failures:
            # The browser comes back by itself with the offsets it has.
            logger.warning("a stream of a page ended early: %s", failures.exceptions[0])
        if not gone:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def encode(event: str, data: Any) -> bytes:
    """One server-sent event; without data a comment that keeps the connection open."""
    if data is None:
        return b": keep-alive\n\n"
    text = json.dumps(json_ready(to_wire(data)), ensure_ascii=False, allow_nan=False)
    return f"event: {event}\ndata: {text}\n\n".encode("utf-8", "replace")
