"""The line in front of each pool of machines: who waits, who holds nodes, and why each waits.

Who is next is decided in ``scheduling``; here the engines are asked and told.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from windlass.errors import ComputeTargetException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason
from windlassd.compute.base import Engine, JobSpec, JobState, NoCapacity, Phase
from windlassd.control import waits
from windlassd.control.scheduling import Holding, Nodes, Pool, Start, Waiting

P = ParamSpec("P")
T = TypeVar("T")
_AT_ONCE_S = 0.01
PRIORITIES = {"dedicated": 0, "lowpriority": 1}
"""``vm_priority`` of clusters that share machines, first ones first."""
_OVERHEAD_S = 60.0
"""What a run may hold its nodes beyond its limit and its grace: its files come and go in that time."""


@dataclass
class _Entry:
    job: JobSpec
    placed: asyncio.Future[str]
    refusal: str = ""
    """Why the engine had no nodes for it when it was asked last."""


@dataclass
class _Held:
    job: JobSpec
    arrived: asyncio.Future[JobState] | None = None
    """Set while its nodes are still to come."""


@dataclass
class _Site:
    """One pool of machines with the clusters on it."""

    pool: Pool = field(default_factory=Pool)
    clusters: dict[str, ClusterSpec] = field(default_factory=dict)
    waiting: dict[str, _Entry] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    """By native id."""
    again: bool = False
    """True while a further look is on its way."""


def _locked(method: Callable[Concatenate[Line, P], T]) -> Callable[Concatenate[Line, P], T]:
    @functools.wraps(method)
    def locked(self: Line, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Line:
    """Runs that wait for nodes. It is rebuilt from the store at start.

    What changes it belongs to the loop's thread; questions (``reason``, ``listed``, ``length``) may come from any.

    Args:
        engine_of: The engine behind a cluster.
        clock: Seconds that only count up.
    """

    def __init__(self, engine_of: Callable[[ClusterSpec], Engine], clock: Callable[[], float] = time.monotonic) -> None:
        self._engine_of = engine_of
        self._clock = clock
        self._sites: dict[str, _Site] = {}
        self._site_of: dict[str, str] = {}
        self._lock = threading.RLock()
        self.moved: Callable[[], None] = lambda: None
        """Called when places in line have changed."""

    @_locked
    def would_wait(self, job: JobSpec) -> bool:
        """True when the job could not start at once."""
        site = self._site(job.cluster)
        return bool(len(site.pool)) or self._engine_of(job.cluster).capacity(job.cluster).idle < job.node_count

    async def place(self, job: JobSpec, turn: float, priority: int = 0) -> str:
        """Wait for the job's turn, submit it, and return its native id.

        Place in line goes by ``priority``, then by ``turn``, the order of the submit calls (and not their times: clocks
        are set): a run whose environment took long to build does not lose its place. Canceling the wait leaves the
        line. Where nodes must be added for it, it returns as soon as that has begun; see ``arrived``.
        """
        entry = _Entry(job, asyncio.get_running_loop().create_future())
        try:
            self._enter(entry, turn, priority)
            return await entry.placed
        finally:
            self._leave(entry)

    async def arrived(self, job: JobSpec) -> JobState:
        """The state of a placed job once it has its nodes.

        Raises:
            ComputeTargetException: the engine could not get them.
        """
        state = self._engine_of(job.cluster).poll([job.native_id]).get(job.native_id)
        if state is not None and state.phase is Phase.PENDING and (arrived := self._arrival(job)) is not None:
            state = await asyncio.shield(arrived)
        if state is None or not state.nodes:
            words = state.message if state is not None and state.message else "it gave the run up"
            raise ComputeTargetException(f"{job.cluster.engine} could not get nodes for the run: {words}.")
        return state

    @_locked
    def hold(self, job: JobSpec, ran_s: float | None = None) -> None:
        """Know of a job that has nodes without having waited here: an earlier server process placed it.

        Args:
            job: The job; its engine has it.
            ran_s: For how long its script has run; None when it has not begun.
        """
        site = self._site(job.cluster)
        site.clusters.setdefault(job.cluster.name, job.cluster)
        self._see(site)
        self._keep(site, job, ran_s)

    @_locked
    def started(self, cluster: ClusterSpec, native_id: str) -> None:
        """A placed job runs its script now: from here its time limit counts, whatever had to be made ready before."""
        site = self._site(cluster)
        held = site.held.get(native_id)
        if held is not None:
            self._count(site, held.job, promised=False, ran_s=0.0)

    @_locked
    def pump(self, cluster: ClusterSpec) -> None:
        """Submit whoever can begin now. Call when nodes became free."""
        self._pump(self._site(cluster))
        self.moved()

    @_locked
    def engine_changed(self, engine: str) -> None:
        """Something is different with the nodes of an engine."""
        for site in list(self._sites.values()):
            if any(cluster.engine == engine for cluster in site.clusters.values()):
                self._pump(site)
        self.moved()

    @_locked
    def changed(self, cluster: ClusterSpec) -> None:
        """The cluster was given other sizes: those who wait see them at once."""
        before = self._sites.get(self._site_of.get(cluster.name, ""))
        self._site_of.pop(cluster.name, None)
        site = self._site(cluster)
        site.clusters[cluster.name] = cluster
        if before is not None and before is not site:
            self._see(site)
            _move(cluster.name, before, site)
            before.clusters.pop(cluster.name, None)
            before.pool.forget(cluster.name)
        self._pump(site)
        self.moved()

    @_locked
    def gone(self, cluster: ClusterSpec) -> None:
        """The cluster was deleted; no run holds or waits for it."""
        site = self._sites.get(self._site_of.pop(cluster.name, ""))
        if site is not None:
            site.clusters.pop(cluster.name, None)
            site.pool.forget(cluster.name)

    @_locked
    def prefer(self, cluster: str, run_id: str, priority: int) -> None:
        """A run that waits has another priority now."""
        site = self._sites.get(self._site_of.get(cluster, ""))
        run = site.pool.waits(run_id) if site else None
        if site is not None and run is not None and run.priority != priority:
            site.pool.wait(replace(run, priority=priority))
            self._pump(site)
            self.moved()

    @_locked
    def length(self, cluster: str) -> int:
        """How many runs wait for the cluster."""
        site = self._sites.get(self._site_of.get(cluster, ""))
        return site.pool.length(cluster) if site else 0

    def waits(self, run_id: str) -> bool:
        """True while the run is in line, or its nodes are still to come."""
        return any(run_id in site.waiting or site.pool.is_promised(run_id) for site in self._sites.values())

    @_locked
    def reason(self, cluster: str, run_id: str) -> Reason | None:
        """Why a run waits, now; None when it is not in line."""
        site = self._sites.get(self._site_of.get(cluster, ""))
        if site is None:
            return None
        now = self._clock()
        run, why = site.pool.waits(run_id), site.pool.why(run_id, now)
        if run is None or why is None:
            return next((self._comes(held.job) for held in _pending(site, run_id)), None)
        first = site.pool.waits(why.first) if why.first else None
        wall = time.time() - now
        most = site.clusters[cluster].max_nodes
        words = waits.sentence(run, why, most, first, lambda at: wall + at)
        if site.pool.is_refused(run_id):  # the numbers alone would not say why
            words = f"{words}; {site.waiting[run_id].refusal}"
        return Reason("waits_for_nodes", words)

    @_locked
    def listed(self, cluster: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """The first ``limit`` of those who wait: ``run_id``, ``place``, ``nodes``, ``priority`` and ``reason``."""
        site = self._sites.get(self._site_of.get(cluster, ""))
        found: list[Mapping[str, Any]] = []
        for place, run in enumerate(site.pool.line(cluster) if site else (), 1):
            if place > limit:
                break
            reason = self.reason(cluster, run.run_id)
            found.append({"run_id": run.run_id, "place": place, "nodes": run.nodes, "priority": run.priority,
                          "reason": reason.message if reason else ""})  # fmt: skip
        return found

    @_locked
    def _enter(self, entry: _Entry, turn: float, priority: int) -> None:
        job = entry.job
        site = self._site(job.cluster)
        site.waiting[job.launch.run_id] = entry
        if job.cluster.name not in site.clusters:
            site.clusters[job.cluster.name] = job.cluster
            self._see(site)
        site.pool.wait(Waiting(job.launch.run_id, job.cluster.name, job.node_count, turn, priority, _longest(job)))
        self._pump(site)
        self.moved()

    @_locked
    def _leave(self, entry: _Entry) -> None:
        site, run_id = self._site(entry.job.cluster), entry.job.launch.run_id
        if site.waiting.get(run_id) is entry:
            del site.waiting[run_id]
            site.pool.leave(run_id)
            self._pump(site)
            self.moved()

    @_locked
    def _arrival(self, job: JobSpec) -> asyncio.Future[JobState] | None:
        held = self._site(job.cluster).held.get(job.native_id)
        if held is not None and held.arrived is None:
            held.arrived = asyncio.get_running_loop().create_future()
        return held.arrived if held is not None else None

    def _site(self, cluster: ClusterSpec) -> _Site:
        key = self._site_of.get(cluster.name)
        if key is None:
            key = self._site_of[cluster.name] = self._engine_of(cluster).pool(cluster)
        return self._sites.setdefault(key, _Site())

    def _pump(self, site: _Site) -> None:
        """Begin what can begin; a long line of those goes on when others have had their turn."""
        self._sync(site)
        until = self._clock() + _AT_ONCE_S
        while (start := site.pool.next(self._clock())) is not None:
            self._begin(site, start)
            self._see(site)
            if self._clock() > until:
                self._soon(site)
                return

    def _soon(self, site: _Site) -> None:
        if not site.again:
            site.again = True
            asyncio.get_running_loop().call_soon(self._again, site)

    @_locked
    def _again(self, site: _Site) -> None:
        site.again = False
        self._pump(site)

    def _begin(self, site: _Site, start: Start) -> None:
        entry = site.waiting[start.run_id]
        if entry.placed.done():  # its wait was canceled in this very moment
            site.pool.leave(start.run_id)
            return
        job = replace(entry.job, cluster=site.clusters[entry.job.cluster.name])
        engine = self._engine_of(job.cluster)
        try:
            native_id = engine.submit(engine.plan(job))
        except NoCapacity as problem:
            entry.refusal = problem.message
            site.pool.refuse(start.run_id)
            return
        except Exception as problem:  # noqa: BLE001  the engine failed for this job; the line goes on
            del site.waiting[start.run_id]
            site.pool.leave(start.run_id)
            entry.placed.set_exception(problem)
            return
        del site.waiting[start.run_id]
        site.pool.begin(start, self._clock())
        self._keep(site, job, None)
        entry.placed.set_result(native_id)

    def _keep(self, site: _Site, job: JobSpec, ran_s: float | None) -> None:
        site.held[job.native_id] = _Held(job)
        state = self._engine_of(job.cluster).poll([job.native_id]).get(job.native_id)
        self._count(site, job, state is not None and state.phase is Phase.PENDING, ran_s)

    def _count(self, site: _Site, job: JobSpec, promised: bool, ran_s: float | None = None) -> None:
        longest = _longest(job) if ran_s is None else _limit(job)
        ends_by = None if longest is None or promised else self._clock() + longest - (ran_s or 0.0)
        site.pool.hold(Holding(job.launch.run_id, job.cluster.name, job.node_count, ends_by, promised))

    def _sync(self, site: _Site) -> None:
        """Learn from the engines who has ended, who has got the nodes that were on their way, and what is free."""
        held_by: dict[str, list[str]] = {}
        for native_id, held in site.held.items():
            held_by.setdefault(held.job.cluster.engine, []).append(native_id)
        for native_ids in held_by.values():
            states = self._engine_of(site.held[native_ids[0]].job.cluster).poll(native_ids)
            for native_id in native_ids:
                self._settle(site, native_id, states.get(native_id))
        self._see(site)

    def _settle(self, site: _Site, native_id: str, state: JobState | None) -> None:
        held = site.held[native_id]
        if state is None:
            del site.held[native_id]
            run_id = held.job.launch.run_id
            if not any(other.job.launch.run_id == run_id for other in site.held.values()):  # else a later attempt's
                site.pool.end(run_id)
        elif state.phase is not Phase.PENDING and site.pool.is_promised(held.job.launch.run_id):
            self._count(site, held.job, promised=False)
        if held.arrived is not None and not held.arrived.done() and (state is None or state.phase is not Phase.PENDING):
            held.arrived.set_result(state or JobState(Phase.LOST))

    def _see(self, site: _Site) -> None:
        for cluster in site.clusters.values():
            there = self._engine_of(cluster).capacity(cluster)
            more = max(0, cluster.max_nodes - there.current)
            nodes = Nodes(there.idle, there.busy, there.preparing, more)
            site.pool.see(cluster.name, PRIORITIES.get(cluster.vm_priority, 0), cluster.max_nodes, nodes)

    def _comes(self, job: JobSpec) -> Reason:
        """Why a job waits that the engine has taken, and has no nodes for yet."""
        state = self._engine_of(job.cluster).poll([job.native_id]).get(job.native_id)
        nodes = "1 node is" if job.node_count == 1 else f"{job.node_count} nodes are"
        words = f"{nodes} being added by {job.cluster.engine}"
        return Reason("waits_for_nodes", f"{words}: {state.message}" if state and state.message else words)


def _longest(job: JobSpec) -> float | None:
    """How long it can hold its nodes from when it gets them; None where its environment is made on them first."""
    return None if job.launch.environment is not None else _limit(job)


def _limit(job: JobSpec) -> float | None:
    limit_s = job.launch.max_run_duration_s
    return None if limit_s is None else limit_s + job.launch.stop_grace_s + _OVERHEAD_S


def _pending(site: _Site, run_id: str) -> list[_Held]:
    if not site.pool.is_promised(run_id):
        return []
    return [held for held in site.held.values() if held.job.launch.run_id == run_id]


def _move(cluster: str, before: _Site, after: _Site) -> None:
    """The cluster's machines are others now."""
    for run in list(before.pool.line(cluster)):
        before.pool.leave(run.run_id)
        after.pool.wait(run)
        after.waiting[run.run_id] = before.waiting.pop(run.run_id)
    for native_id, held in list(before.held.items()):
        if held.job.cluster.name == cluster:
            after.held[native_id] = before.held.pop(native_id)
            holding = before.pool.end(held.job.launch.run_id)
            if holding is not None:
                after.pool.hold(holding)
