"""The agents of a workspace: their order lines, what each was given, and starting the one of this machine."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import windlassd
from windlass import settings
from windlass.errors import ComputeTargetException
from windlass.specs._codec import to_wire
from windlass.specs.launch import ACCEPTED_PROTOCOLS, PROTOCOL, LaunchSpec, Ticket
from windlass.specs.run import Reason

log = logging.getLogger(__name__)
PING_S = 5.0
_LOOK_AGAIN_S = 0.1
_LONGEST_WAIT_S = 10.0
_DEAF_S = 0.5
_CONTAINERS_SINCE = 3
"""The first protocol whose agents run jobs in containers."""
_TOO_OLD_FOR_CONTAINERS = (
    "It runs in a container, and the agent here (pid {0.pid}) is of an older Windlass ({0.version}) that knows none. "
    "When what that agent holds has ended, one of this version takes its place and starts it. To have that sooner, "
    "cancel what runs."
)
Key = tuple[str, int]


@dataclass
class _Part:
    """One node's part that an agent holds or is to be given."""

    launch: LaunchSpec
    started: bool = False
    stop: Reason | None = None


@dataclass(frozen=True)
class Hello:
    """What an agent says when it opens its line."""

    pid: int
    runs: Collection[Key] = ()
    """The parts it holds."""
    protocol: int = PROTOCOL
    version: str = windlassd.__version__

    @property
    def refusal(self) -> str | None:
        """Why it gets no runs from this server; None when it does."""
        if self.protocol in ACCEPTED_PROTOCOLS:
            return None
        age = "an older" if self.protocol < PROTOCOL else "a newer"
        return (
            f"The agent (pid {self.pid}) is of {age} Windlass ({self.version}, protocol {self.protocol}) than this "
            f"server can give runs to ({windlassd.__version__}, protocols {_listed(ACCEPTED_PROTOCOLS)}). What it "
            "holds it brings to its end; then an agent of this version takes its place, and runs that wait for it "
            "start. To have that sooner, cancel what it runs."
        )

    def takes(self, launch: LaunchSpec) -> bool:
        """True when it can be given ``launch``; an agent that knows no containers would run it without one."""
        return self.refusal is None and (launch.container is None or self.protocol >= _CONTAINERS_SINCE)

    @property
    def outdated(self) -> bool:
        """True when an agent of this server's own version is to take its place as soon as it holds nothing."""
        return self.protocol != PROTOCOL or self.version != windlassd.__version__


@dataclass
class _Agent:
    parts: dict[Key, _Part] = field(default_factory=dict)
    outbox: asyncio.Queue[Mapping[str, Any]] | None = None
    hello: Hello | None = None
    holds: set[Key] = field(default_factory=set)
    """What the agent that was here last has, as far as is known."""
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    """Starts in a row that did not lead to a line."""
    again: asyncio.TimerHandle | None = None
    """The next look at whether it must be started."""


class AgentHub:
    """Implements ``AgentLink``. Its methods may be called from any thread; the state is the loop thread's.

    Args:
        workspace_dir: The workspace's folder.
        loop: The server's event loop.
    """

    def __init__(self, workspace_dir: str, loop: asyncio.AbstractEventLoop) -> None:
        self._workspace_dir = workspace_dir
        self._loop = loop
        self._agents: dict[str, _Agent] = {}
        self._heard: dict[Key, float] = {}
        self._closing = False
        self._parting: Mapping[str, Any] | None = None

    def start(self, agent: str, launch: LaunchSpec) -> None:
        """Send the part now, and again to an agent that connects before it said that the part started."""
        self._on_loop(self._give, agent, _Part(launch))

    def adopt(self, agent: str, launch: LaunchSpec, started: bool) -> None:
        """Know of a part from before this server process."""
        self._on_loop(self._give, agent, _Part(launch, started))

    def stop(self, agent: str, run_id: str, attempt: int, reason: Reason) -> None:
        """Send the order to stop, and again to an agent that connects before the part has ended."""
        self._on_loop(self._stop, agent, (run_id, attempt), reason)

    def ensure(self, agent: str) -> None:
        """Start the agent's process unless it is connected, starting, or alive and about to connect."""
        self._on_loop(self._ensure, agent)

    def enlist(self, agent: str, run_id: str) -> Ticket:
        """See ``AgentLink.enlist``."""
        raise ComputeTargetException("This server has no listener for agents on other machines yet.")

    def dismiss(self, agent: str) -> None:
        """See ``AgentLink.dismiss``."""

    def changed(self, engine: str) -> None:
        """See ``AgentLink.changed``."""

    def heard(self, agent: str, key: Key, started: bool = False) -> None:
        """The agent told something of a part. Loop thread."""
        self._heard[key] = time.monotonic()
        part = self._agents.setdefault(agent, _Agent()).parts.get(key)
        if part and started:
            part.started = True

    def silence_s(self, key: Key) -> float:
        """Seconds since the agent told anything of a part. Loop thread."""
        return time.monotonic() - self._heard.setdefault(key, time.monotonic())

    def excuse(self, deaf_s: float) -> None:
        """This process itself did not listen for so long (it was stopped): no agent was silent then. Loop thread."""
        if deaf_s > _DEAF_S:
            now = time.monotonic()
            self._heard = {key: min(now, heard + deaf_s) for key, heard in self._heard.items()}

    def forget(self, key: Key) -> None:
        """The part has ended and its end is recorded. Loop thread."""
        self._heard.pop(key, None)
        for agent in self._agents.values():
            agent.parts.pop(key, None)
            agent.holds.discard(key)

    def why_waits(self, run_id: str) -> Reason | None:
        """Why a run that has its nodes is not given to the agent that is here; None when it is. Loop thread."""
        for agent in self._agents.values():
            part = next((part for key, part in agent.parts.items() if key[0] == run_id), None)
            if part is None or part.started or agent.outbox is None or agent.hello is None:
                continue
            if not agent.hello.takes(part.launch):
                words = agent.hello.refusal or _TOO_OLD_FOR_CONTAINERS.format(agent.hello)
                return Reason("waits_for_agent", words)
        return None

    def given(self) -> set[str]:
        """Runs of which an agent has, or is to be given, a part. Loop thread."""
        return {run_id for agent in self._agents.values() for run_id, _ in agent.parts}

    def failures(self) -> int:
        """Starts in a row, of any agent that is not here, that did not lead to a line."""
        return max((agent.failures for agent in self._agents.values() if agent.outbox is None), default=0)

    def connected(self) -> list[Mapping[str, Any]]:
        """``{"name", "pid", "protocol", "version", "note"}`` of each agent with an open line."""
        return [
            {"name": name, "pid": a.hello.pid, "protocol": a.hello.protocol, "version": a.hello.version,
             "note": a.hello.refusal}
            for name, a in self._agents.items() if a.outbox is not None and a.hello is not None
        ]  # fmt: skip

    async def orders(self, name: str, hello: Hello, given_up: Sequence[Key]) -> AsyncIterator[Mapping[str, Any]]:
        """What the agent on this line is to do, until it hangs up or nothing is left to do.

        Args:
            name: The agent's.
            hello: What it said.
            given_up: Parts it holds whose runs have ended in the meantime.
        """
        agent = self._agents.setdefault(name, _Agent())
        outbox: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        agent.outbox, agent.hello, agent.holds, agent.failures = outbox, hello, set(hello.runs), 0
        log.info("agent %s (pid %d) is here", name, hello.pid)
        if self._parting is not None:  # the server is ending, which this agent could not know
            outbox.put_nowait(self._parting)
        try:
            for order in self._first_orders(agent, hello, given_up):
                yield order
            quiet = False
            while True:
                try:
                    order = await asyncio.wait_for(outbox.get(), PING_S)
                    quiet = False
                except TimeoutError:
                    free = hello.outdated and not agent.holds
                    order = {"exit": {}} if free and quiet else {}  # the second time: it may still be clearing up
                    quiet = free
                if order is _HANG_UP:
                    return
                yield order
                if "exit" in order:
                    return
        finally:
            if agent.outbox is outbox:
                agent.outbox = None
                log.info("agent %s (pid %d) is gone", name, hello.pid)
                if not self._closing:
                    self._ensure(name)

    def _first_orders(self, agent: _Agent, hello: Hello, given_up: Sequence[Key]) -> list[Mapping[str, Any]]:
        """What an agent is told when it opens its line. One that is refused is only told what to end."""
        orders: list[Mapping[str, Any]] = []
        if hello.refusal:
            log.error("%s", hello.refusal)
            orders.append({"refused": hello.refusal})
        else:
            known = [key for key, part in agent.parts.items() if part.started and key not in hello.runs]
            agent.holds.update(known)
            orders.append({"known": [list(key) for key in known]})
        orders += [_stop_order(key, Reason("given_up", "Its run has ended without it.")) for key in given_up]
        for key, part in agent.parts.items():
            if not part.started and hello.takes(part.launch):
                agent.holds.add(key)
                orders.append({"start": to_wire(part.launch)})
            if part.stop:
                orders.append(_stop_order(key, part.stop))
        return orders

    def close(self) -> None:
        """Tell every agent to exit. Loop thread; only when nothing runs."""
        self._part({"exit": {}})

    def detach(self) -> None:
        """Let the agents live on while this server ends: they start the next one. Loop thread."""
        self._part(_HANG_UP)

    def _part(self, order: Mapping[str, Any]) -> None:
        self._closing, self._parting = True, order
        for agent in self._agents.values():
            if agent.outbox is not None:
                agent.outbox.put_nowait(order)

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon_threadsafe(call, *args)

    def _give(self, name: str, part: _Part) -> None:
        agent = self._agents.setdefault(name, _Agent())
        key = (part.launch.run_id, part.launch.attempt)
        agent.parts[key] = part
        self._heard[key] = time.monotonic()
        if agent.outbox is not None and not part.started and (agent.hello is None or agent.hello.takes(part.launch)):
            agent.holds.add(key)
            agent.outbox.put_nowait({"start": to_wire(part.launch)})

    def _stop(self, name: str, key: Key, reason: Reason) -> None:
        agent = self._agents.setdefault(name, _Agent())
        part = agent.parts.get(key)
        if part is None:
            return
        part.stop = reason
        if agent.outbox is not None:
            agent.outbox.put_nowait(_stop_order(key, reason))

    def _ensure(self, name: str) -> None:
        """Start the agent unless it lives, and look again until its line is open.

        A process that is alive may be about to connect, or was killed a moment ago and is not reaped yet: only looking
        again tells.
        """
        agent = self._agents.setdefault(name, _Agent())
        if agent.again is not None:
            agent.again.cancel()
            agent.again = None
        if self._closing or agent.outbox is not None:
            return
        if (agent.process and agent.process.poll() is None) or self._is_alive(name):
            wait_s = _LOOK_AGAIN_S
        else:
            self._spawn(agent, name)
            agent.failures += 1
            wait_s = min(_LOOK_AGAIN_S * 2**agent.failures, _LONGEST_WAIT_S)
        agent.again = self._loop.call_later(wait_s, self._ensure, name)

    def _spawn(self, agent: _Agent, name: str) -> None:
        folder = self._folder(name)
        with open(os.path.join(folder, "agent.log"), "ab") as output:
            agent.process = subprocess.Popen(
                [sys.executable, "-m", "windlassd.agent", "--workspace-dir", self._workspace_dir, "--name", name],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=folder,
                env=settings.child_environment(),
            )  # fmt: skip

    def _is_alive(self, name: str) -> bool:
        with open(os.path.join(self._folder(name), "agent.lock"), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _folder(self, name: str) -> str:
        folder = os.path.join(self._workspace_dir, "agents", name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return folder


_HANG_UP: Mapping[str, Any] = {"hang_up": {}}
"""Ends a line without a word: the agent takes that for this server's end, and starts the next."""


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def _stop_order(key: Key, reason: Reason) -> Mapping[str, Any]:
    return {"stop": {"run_id": key[0], "attempt": key[1], "reason_code": reason.code, "message": reason.message}}
