"""Timers that look at the whole workspace: silent agents, and whether anything is left to do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from windlass import settings
from windlass.errors import AzureMLException
from windlass.specs.launch import Outcome, PartKey
from windlass.specs.run import Reason, RunRecord
from windlass.specs.status import RunStatus
from windlassd.control.agents import AgentHub
from windlassd.control.conductor import mover
from windlassd.control.core import Core
from windlassd.control.losses import NODE_LOST, Losses, going

HEARTBEAT_LOST = "heartbeat_lost"
log = logging.getLogger(__name__)


class Monitor:
    """Marks runs whose agent is silent as NotResponding, and back. What ends a run is ``losses``'.

    Args:
        core: The workspace.
        hub: Knows how long each agent was silent.
        lose: Records the end of a part that was lost.
    """

    def __init__(
        self, core: Core, hub: AgentHub, lose: Callable[[PartKey, Outcome], Awaitable[None]]
    ) -> None:  # fmt: skip
        self._core = core
        self._hub = hub
        self._losses = Losses(core, hub, lose, self._wait)

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
        placed = [record for record in self._core.read(lambda tx: tx.active_runs(placed=True)) if record.nodes]
        for record in placed:
            silent = max((self._hub.silence_s(key) for key in going(record)), default=0.0) > limit_s
            if silent and record.status is RunStatus.RUNNING:
                message = f"Nothing was heard from its agent for {limit_s:g} s; it may still be working."
                await self._move(record.id, RunStatus.NOT_RESPONDING, Reason(HEARTBEAT_LOST, message))
            elif not silent and record.status is RunStatus.NOT_RESPONDING and _was_silent(record):
                back = Reason("running", f"Its agent is back; it runs on {', '.join(record.nodes)}.")
                await self._move(record.id, RunStatus.RUNNING, back)
        await self._losses.look(placed)

    async def _wait(self, record: RunRecord, words: str) -> None:
        """Say of a run whose lost node is waited for what is waited for; once."""
        now = self._core.read(lambda tx: tx.get_run(record.id))
        if now.status is RunStatus.NOT_RESPONDING and (now.reason is None or now.reason.code != NODE_LOST):
            await self._move(record.id, RunStatus.NOT_RESPONDING, Reason(NODE_LOST, words))

    async def _move(self, run_id: str, status: RunStatus, reason: Reason) -> None:
        log.warning("%s: %s", run_id, reason.message)
        await self._core.write(mover(run_id, status, reason, {}))  # it may have ended since it was looked at
        self._core.bus.touch(run_id, "run")


def _was_silent(record: RunRecord) -> bool:
    """False for one that waits for its next attempt to start."""
    return record.reason is not None and record.reason.code in (HEARTBEAT_LOST, NODE_LOST)
