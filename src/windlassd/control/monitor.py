"""Timers that look at the whole workspace: silent agents, and whether anything is left to do."""

from __future__ import annotations

import asyncio
import logging
import time

from windlass import settings
from windlass.errors import AzureMLException
from windlass.specs.run import Reason
from windlass.specs.status import RunStatus
from windlassd.control.agents import AgentHub
from windlassd.control.conductor import ATTEMPT, mover
from windlassd.control.core import Core

log = logging.getLogger(__name__)


class Monitor:
    """Marks runs whose agent is silent as NotResponding, and back. It never ends a run (DESIGN decision 8)."""

    def __init__(self, core: Core, hub: AgentHub) -> None:
        self._core = core
        self._hub = hub

    async def run(self) -> None:
        """Look again and again until canceled."""
        pause_s = settings.steady("heartbeat_s") / 2
        while True:
            began = time.monotonic()
            await asyncio.sleep(pause_s)
            self._hub.excuse(time.monotonic() - began - pause_s)
            try:
                if self._core.trouble is not None:  # whoever was refused may never ask again: find out
                    await self._core.write(lambda tx: tx.set_meta("writable", "yes"))
                await self.look()
                pause_s = settings.steady("heartbeat_s") / 2
            except AzureMLException:  # such as a full disk: look again later
                log.exception("the agents could not be looked after")

    async def look(self) -> None:
        """Compare each run on a node with when its agent was last heard."""
        limit_s = settings.steady("heartbeat_timeout_s")
        for record in self._core.read(lambda tx: tx.active_runs()):
            if not record.nodes:
                continue
            silent = self._hub.silence_s((record.id, ATTEMPT)) > limit_s
            if silent and record.status is RunStatus.RUNNING:
                message = f"Nothing was heard from its agent for {limit_s:g} s; it may still be working."
                await self._move(record.id, RunStatus.NOT_RESPONDING, Reason("heartbeat_lost", message))
            elif not silent and record.status is RunStatus.NOT_RESPONDING:
                back = Reason("running", f"Its agent is back; it runs on {', '.join(record.nodes)}.")
                await self._move(record.id, RunStatus.RUNNING, back)

    async def _move(self, run_id: str, status: RunStatus, reason: Reason) -> None:
        log.warning("%s: %s", run_id, reason.message)
        await self._core.write(mover(run_id, status, reason, {}))  # it may have ended since it was looked at
        self._core.bus.touch(run_id, "run")
