"""The route of the doctor: an examination of the workspace that this server serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

import windlassd
from windlass import settings
from windlassd.control.workspace import WorkspaceControl
from windlassd.doctor.examine import Examination
from windlassd.doctor.patient import Patient
from windlassd.server.api._http import body_of
from windlassd.store.sql import SqlStore

T = TypeVar("T")
_PING_S = 5.0


def router(control: WorkspaceControl) -> APIRouter:
    """``POST /v1/doctor``."""
    routes = APIRouter(prefix="/v1")
    turn = asyncio.Lock()  # two that repair would be in each other's way
    at_work: set[asyncio.Task[None]] = set()

    @routes.post("/doctor")
    async def doctor(request: Request) -> StreamingResponse:
        body = await body_of(request)
        store = control.core.store
        assert isinstance(store, SqlStore)  # another store brings a doctor of its own
        patient = Patient(
            control.core.workspace_dir, settings.home(), store=store, live=_Moment(control), deep=bool(body.get("deep"))
        )
        told: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        work = asyncio.create_task(_examine(patient, bool(body.get("repair")), turn, told), name="doctor")
        at_work.add(work)
        work.add_done_callback(at_work.discard)
        return StreamingResponse(_lines(work, told), media_type="application/x-ndjson")

    return routes


class _Moment:
    """Implements ``Live``: asks the control, on its loop."""

    def __init__(self, control: WorkspaceControl) -> None:
        self._control = control

    def agent_failures(self) -> int:
        """Starts in a row of an agent that did not lead to a connection."""
        return self._asked(self._control.hub.failures)

    def held(self) -> Collection[str]:
        """Runs that some task, agent or client of this moment moves."""
        return self._asked(self._control.moved)

    def verifying(self) -> Collection[str]:
        """Runs whose checksums are being computed."""
        return self._asked(self._control.run_files.verifying)

    def free(self, hashes: Collection[str]) -> None:
        """Delete those of the blobs that nothing uses."""
        work = self._control.deletions.contents(hashes)
        asyncio.run_coroutine_threadsafe(work, self._control.core.loop).result()

    def _asked(self, question: Callable[[], T]) -> T:
        async def answer() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(answer(), self._control.core.loop).result()


async def _examine(
    patient: Patient, repair: bool, turn: asyncio.Lock, told: asyncio.Queue[Mapping[str, Any] | None]
) -> None:
    """Examine on a thread; ``told`` gets each line, and None at the end."""
    loop = asyncio.get_running_loop()

    def tell(line: Mapping[str, Any]) -> None:
        loop.call_soon_threadsafe(told.put_nowait, line)

    try:
        async with turn:
            tell({"version": windlassd.__version__})
            await asyncio.to_thread(Examination(patient, repair=repair, tell=tell).run)
    finally:
        told.put_nowait(None)


async def _lines(work: asyncio.Task[None], told: asyncio.Queue[Mapping[str, Any] | None]) -> AsyncIterator[bytes]:
    """What the examination tells, as it goes, with an empty object while it is silent.

    The work of one whose client has gone is carried to its end: it may be in the middle of a repair.
    """
    while True:
        try:
            line = await asyncio.wait_for(told.get(), _PING_S)
        except TimeoutError:
            line = {}
        if line is None:
            break
        yield json.dumps(line).encode() + b"\n"
    await work
