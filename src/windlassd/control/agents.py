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
from windlass.specs.launch import ACCEPTED_PROTOCOLS, PROTOCOL, LaunchSpec, PartKey, Ticket
from windlass.specs.run import Reason
from windlassd.control.enlisting import Enlisting
from windlassd.control.secrets import Secrets

log = logging.getLogger(__name__)
PING_S = 5.0
_LOOK_AGAIN_S = 0.1
_LONGEST_WAIT_S = 10.0
_DEAF_S = 0.5
_SAME_TIME_S = 1.0
"""Clocks that differ by less are taken for equal: a hello may have been on its way for as long."""
_CONTAINERS_SINCE = 3
"""The first protocol whose agents run jobs in containers."""
_PARTS_SINCE = 4
"""The first protocol that tells parts of several nodes apart, and knows leases and environments made on the node."""
_TOO_OLD = (
    "{1}, and the agent here (pid {0.pid}) is of an older Windlass ({0.version}) that knows none. "
    "When what that agent holds has ended, one of this version takes its place and starts it. To have that sooner, "
    "cancel what runs."
)


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
    runs: Collection[PartKey] = ()
    """The parts it holds."""
    protocol: int = PROTOCOL
    version: str = windlassd.__version__
    ahead_s: float = 0.0
    """How far its clock is ahead of this machine's; negative when it is behind."""

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
        """True when it can be given ``launch``; an agent that does not know what it asks for would run it without."""
        return self.refusal is None and self._lacks(launch) is None

    def why_not(self, launch: LaunchSpec) -> str | None:
        """Why it cannot be given ``launch``, for who waits for it; None when it can."""
        lacks = self._lacks(launch)
        return self.refusal or (_TOO_OLD.format(self, lacks) if lacks else None)

    def unfit_on(self, launch: LaunchSpec) -> str:
        """As ``why_not``, of the agent of a node elsewhere, where none takes its place."""
        age = "a newer" if self.protocol > PROTOCOL else "an older"
        return (
            f"The Windlass on {launch.node} is of {age} version ({self.version}, protocol {self.protocol}) than this "
            f"server can give the run to ({windlassd.__version__}, protocols {_listed(ACCEPTED_PROTOCOLS)}). Install "
            f"windlass {windlassd.__version__} there, and submit again."
        )

    def _lacks(self, launch: LaunchSpec) -> str | None:
        if launch.container is not None and self.protocol < _CONTAINERS_SINCE:
            return "It runs in a container"
        if self.protocol < _PARTS_SINCE:
            if launch.node_count > 1 or launch.node_rank:
                return "It runs on several nodes"
            if launch.lease_s is not None or launch.environment is not None:
                return "It has a lease or an environment that is made on its node"
        return None

    def told(self, key: PartKey) -> list[Any]:
        """A part as this agent names it."""
        return list(key if self.protocol >= _PARTS_SINCE else key[:2])

    @property
    def outdated(self) -> bool:
        """True when an agent of this server's own version is to take its place as soon as it holds nothing."""
        return self.protocol != PROTOCOL or self.version != windlassd.__version__


@dataclass
class _Agent:
    parts: dict[PartKey, _Part] = field(default_factory=dict)
    outbox: asyncio.Queue[Mapping[str, Any]] | None = None
    hello: Hello | None = None
    holds: set[PartKey] = field(default_factory=set)
    """What the agent that was here last has, as far as is known."""
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    """Starts in a row that did not lead to a line."""
    again: asyncio.TimerHandle | None = None
    """The next look at whether it must be started."""
    elsewhere: bool = False
    """True: it is on another machine, where its engine starts it and nobody else."""


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
        self._heard: dict[PartKey, float] = {}
        self._leases: dict[PartKey, float] = {}
        self._late: set[str] = set()
        self._closing = False
        self._parting: Mapping[str, Any] | None = None
        self.enlisting: Enlisting | None = None
        """Gives tickets to agents on other machines; None where there is no server for them."""
        self.recorded: Callable[[PartKey], str | None] = lambda key: None
        """What the record has of a part: its status; None when nothing."""
        self.unfit: Callable[[PartKey, str], None] = lambda key, why: None
        """Called on the loop's thread with a part that the agent of its node cannot be given, and why."""
        self.watchers: list[Callable[[str], None]] = []
        """Called on the loop's thread with the name of an engine that says that something changed."""

    def start(self, agent: str, launch: LaunchSpec) -> None:
        """Send the part now, and again to an agent that connects before it said that the part started."""
        self._on_loop(self._give, agent, _Part(launch))

    def adopt(self, agent: str, launch: LaunchSpec, started: bool) -> None:
        """Know of a part from before this server process; what the records have of it goes before ``started``."""
        self._on_loop(self._adopt, agent, launch, started)

    def stop(self, agent: str, run_id: str, attempt: int, reason: Reason) -> None:
        """Send the orders to stop what the agent has of the attempt, again to one that connects before their end."""
        self._on_loop(self._stop, agent, run_id, attempt, reason)

    def ensure(self, agent: str) -> None:
        """Start the agent's process unless it is connected, starting, or alive and about to connect."""
        self._on_loop(self._ensure, agent)

    def enlist(self, agent: str, run_id: str, towards: str | None = None) -> Ticket:
        """See ``AgentLink.enlist``."""
        if self.enlisting is None:
            raise ComputeTargetException("This server has no listener for agents on other machines.")
        ticket = self.enlisting.ticket(agent, run_id, towards)
        self._on_loop(self._note_elsewhere, agent)
        return ticket

    def dismiss(self, agent: str) -> None:
        """See ``AgentLink.dismiss``. One that has not told of its end may still come with what it has."""
        self._on_loop(self._dismiss, agent)

    def workspace_id(self) -> str:
        """See ``AgentLink.workspace_id``."""
        if self.enlisting is None or self.enlisting.door is None or not self.enlisting.door.workspace_id:
            raise ComputeTargetException("This server has no listener for agents on other machines.")
        return self.enlisting.door.workspace_id

    def secret(self, cluster: str) -> str | None:
        """See ``AgentLink.secret``."""
        return Secrets(self._workspace_dir).find(cluster)

    def changed(self, engine: str) -> None:
        """See ``AgentLink.changed``."""
        self._on_loop(self._changed, engine)

    def heard(self, agent: str, key: PartKey, started: bool = False) -> None:
        """The agent told something of a part. Loop thread."""
        self._heard[key] = time.monotonic()
        part = self._agents.setdefault(agent, _Agent()).parts.get(key)
        if part and started:
            part.started = True

    def called(self, key: PartKey) -> None:
        """An agent on another machine made a call for its part, whatever it was. Loop thread."""
        if key in self._heard:
            self._heard[key] = time.monotonic()

    def ahead_s(self, agent: str) -> float:
        """How far an agent's clock is ahead of this machine's, as its last hello showed. Loop thread."""
        known = self._agents.get(agent)
        ahead_s = known.hello.ahead_s if known is not None and known.hello is not None else 0.0
        return ahead_s if abs(ahead_s) > _SAME_TIME_S else 0.0

    def silence_s(self, key: PartKey) -> float:
        """Seconds since the agent told anything of a part. Loop thread."""
        return time.monotonic() - self._heard.setdefault(key, time.monotonic())

    def lease_s(self, key: PartKey) -> float | None:
        """The lease of a part; None without one. Loop thread."""
        return self._leases.get(key)

    def excuse(self, deaf_s: float) -> None:
        """This process itself did not listen for so long (it was stopped): no agent was silent then. Loop thread."""
        if deaf_s > _DEAF_S:
            now = time.monotonic()
            self._heard = {key: min(now, heard + deaf_s) for key, heard in self._heard.items()}

    def forget(self, key: PartKey) -> None:
        """The part has ended and its end is recorded. Loop thread."""
        self._forget(key)
        if self.enlisting is not None:  # it came late, and nothing more is to come
            self.enlisting.tokens.end_if_late("{}.{}.{}".format(*key))

    def _forget(self, key: PartKey) -> None:
        self._heard.pop(key, None)
        self._leases.pop(key, None)
        for name, agent in list(self._agents.items()):
            agent.parts.pop(key, None)
            agent.holds.discard(key)
            self._drop_if_gone(name, agent)

    def lose(self, key: PartKey) -> None:
        """The part counts as lost; its agent may still come with what it has. Loop thread."""
        self._late.add("{}.{}.{}".format(*key))
        self._forget(key)

    def why_waits(self, run_id: str) -> Reason | None:
        """Why a run that has its nodes is not given to the agent that is here; None when it is. Loop thread."""
        for agent in self._agents.values():
            if agent.outbox is None or agent.hello is None:
                continue
            for key, part in agent.parts.items():
                if key[0] == run_id and not part.started and (words := agent.hello.why_not(part.launch)):
                    return Reason("waits_for_agent", words)
        return None

    def given(self) -> set[str]:
        """Runs of which an agent has, or is to be given, a part. Loop thread."""
        return {run_id for agent in self._agents.values() for run_id, _, _ in agent.parts}

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

    async def orders(self, name: str, hello: Hello, given_up: Sequence[PartKey]) -> AsyncIterator[Mapping[str, Any]]:
        """What the agent on this line is to do, until it hangs up or nothing is left to do.

        Args:
            name: The agent's.
            hello: What it said.
            given_up: Parts it holds whose runs have ended in the meantime.
        """
        agent = self._agents.setdefault(name, _Agent())
        if self.enlisting is not None and self.enlisting.tokens.part_of(name) is not None:
            agent.elsewhere = True  # its engine began it before this server was there
        outbox: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        agent.outbox, agent.hello, agent.holds, agent.failures = outbox, hello, set(hello.runs), 0
        log.info("agent %s (pid %d) is here", name, hello.pid)
        if self._parting is not None:  # the server is ending, which this agent could not know
            outbox.put_nowait(self._parting)
        try:
            for order in self._first_orders(name, agent, hello, given_up):
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
                if agent.elsewhere:
                    self._drop_if_gone(name, agent)
                elif not self._closing:
                    self._ensure(name)

    def _first_orders(
        self, name: str, agent: _Agent, hello: Hello, given_up: Sequence[PartKey]
    ) -> list[Mapping[str, Any]]:
        """What an agent is told when it opens its line. One that is refused is only told what to end."""
        orders: list[Mapping[str, Any]] = []
        if hello.refusal:
            log.error("%s", hello.refusal)
            orders.append({"refused": hello.refusal})
        else:
            known = [key for key, part in agent.parts.items() if part.started and key not in hello.runs]
            agent.holds.update(known)
            orders.append({"known": [hello.told(key) for key in known]})
        orders += [_stop_order(key, Reason("given_up", "Its run has ended without it.")) for key in given_up]
        for key, part in agent.parts.items():
            if not part.started and hello.takes(part.launch):
                agent.holds.add(key)
                orders.append(self._start_order(name, part.launch))
            elif not part.started and agent.elsewhere:  # no other comes to its node
                self.unfit(key, hello.unfit_on(part.launch))
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

    def _adopt(self, name: str, launch: LaunchSpec, started: bool) -> None:
        status = self.recorded(launch.key)
        if status not in ("ended", "lost"):
            self._give(name, _Part(launch, started if status is None else status == "running"))

    def _give(self, name: str, part: _Part) -> None:
        agent = self._agents.setdefault(name, _Agent())
        key = part.launch.key
        agent.parts[key] = part
        self._heard[key] = time.monotonic()
        if part.launch.lease_s is not None:
            self._leases[key] = part.launch.lease_s
        if agent.outbox is not None and not part.started and (agent.hello is None or agent.hello.takes(part.launch)):
            agent.holds.add(key)
            agent.outbox.put_nowait(self._start_order(name, part.launch))
        elif agent.outbox is not None and agent.hello is not None and agent.elsewhere and not part.started:
            self.unfit(key, agent.hello.unfit_on(part.launch))

    def _start_order(self, name: str, launch: LaunchSpec) -> Mapping[str, Any]:
        """The order; for an agent on another machine with a token for its job."""
        token = self.enlisting.tokens.job_token(name) if self.enlisting is not None else None
        return {"start": to_wire(launch), **({"job_token": token} if token else {})}

    def _note_elsewhere(self, name: str) -> None:
        self._agents.setdefault(name, _Agent()).elsewhere = True

    def _dismiss(self, name: str) -> None:
        agent = self._agents.get(name, _Agent())
        if self.enlisting is not None:
            self.enlisting.dismiss(name, over=not agent.parts and name not in self._late)
        self._late.discard(name)
        self._drop_if_gone(name, agent)

    def _drop_if_gone(self, name: str, agent: _Agent) -> None:
        if agent.elsewhere and agent.outbox is None and not agent.parts:
            self._agents.pop(name, None)

    def _changed(self, engine: str) -> None:
        for watcher in self.watchers:
            watcher(engine)

    def _stop(self, name: str, run_id: str, attempt: int, reason: Reason) -> None:
        agent = self._agents.setdefault(name, _Agent())
        for key, part in agent.parts.items():
            if key[:2] == (run_id, attempt):
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


def _stop_order(key: PartKey, reason: Reason) -> Mapping[str, Any]:
    run_id, attempt, rank = key
    told = {"run_id": run_id, "attempt": attempt, "rank": rank, "reason_code": reason.code, "message": reason.message}
    return {"stop": told}
