"""A queue without machines: runs of random sizes come, go, are canceled and lose nodes, on a clock of its own.

It keeps account of every machine by itself, and fails when a decision gives one away twice, splits a gang, lets a run
overtake another of its kind in turn, or breaks what was promised to the first in line.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from windlassd.control.scheduling import Nodes, Pool, Start, Waiting

_TINY = 1e-6


@dataclass(frozen=True)
class Plan:
    """What is simulated."""

    runs: int
    machines: int
    pools: int = 4
    clusters: int = 3
    """In each pool."""
    load: float = 1.5
    """Work that comes, against what the machines can do in that time."""
    canceled: float = 0.05
    lost: float = 0.02
    """Runs that lose a node, which is away for a while."""
    limited: float = 0.8
    """Runs that have a limit."""
    largest: float = 0.25
    """The largest run, against the machines of a pool."""
    seed: int = 6


@dataclass
class Told:
    """What came of it."""

    started: int = 0
    out_of_turn: int = 0
    canceled: int = 0
    lost: int = 0
    decisions: int = 0
    longest_line: int = 0
    deciding_s: float = 0.0
    longest_s: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Of all that started, in simulated seconds."""


@dataclass
class _Run:
    waiting: Waiting
    lasts_s: float
    pool: _Site
    came: float
    machines: list[int] = field(default_factory=list)
    began: bool = False
    over: bool = False


class _Site:
    """One pool's machines, counted apart from the decisions."""

    def __init__(self, name: str, machines: int, clusters: int) -> None:
        self.pool = Pool()
        self.free = list(range(machines))
        self.machines = machines
        self.clusters = {
            f"{name}-{n}": (n % 2 if clusters > 2 else 0, max(1, machines * (n + 2) // (clusters + 2)))
            for n in range(clusters)
        }
        self.busy = dict.fromkeys(self.clusters, 0)
        self.promise: tuple[str, float] | None = None

    def see(self) -> None:
        for name, (priority, most) in self.clusters.items():
            idle = max(0, min(len(self.free), most - self.busy[name]))
            self.pool.see(name, priority, most, Nodes(idle, self.busy[name]))


class Simulation:
    """``run`` does all of it and returns what came of it; AssertionError when a rule is broken."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._events: list[tuple[float, int, str, object]] = []
        self._number = itertools.count()
        self._runs: dict[str, _Run] = {}
        each = plan.machines // plan.pools
        self._sites = [_Site(f"pool{n}", each, plan.clusters) for n in range(plan.pools)]
        self.told = Told()

    def run(self) -> Told:
        """Until nothing is left."""
        for site in self._sites:
            site.see()
        for at, run in self._arrivals():
            self._later(at, "arrive", run)
        now = 0.0
        while self._events:
            now, _, kind, what = heapq.heappop(self._events)
            site = getattr(self, f"_{kind}")(now, what)
            if site is not None:
                self._decide(site, now)
        for site in self._sites:
            assert len(site.pool) == 0, f"{len(site.pool)} runs wait for ever"
            assert not site.pool.holding() and len(site.free) == site.machines
        return self.told

    def _later(self, at: float, kind: str, what: object) -> None:
        heapq.heappush(self._events, (at, next(self._number), kind, what))

    def _arrivals(self) -> Iterator[tuple[float, _Run]]:
        plan, pick = self._plan, self._random
        mean_s, at = 600.0, 0.0
        sizes = [1, 1, 1, 1, 2, 2, 4, 8, 16, 32]
        largest = max(1, int(plan.machines // plan.pools * plan.largest))
        mean_size = sum(min(size, largest) for size in sizes) / len(sizes)
        gap_s = mean_s * mean_size / (plan.machines * plan.load)
        for number in range(plan.runs):
            at += pick.expovariate(1 / gap_s)
            site = pick.choice(self._sites)
            cluster = pick.choice(list(site.clusters))
            size = largest if pick.random() < 0.001 else min(pick.choice(sizes), largest, site.clusters[cluster][1])
            size = min(size, site.clusters[cluster][1])
            lasts_s = pick.expovariate(1 / mean_s) + 1
            limit_s = lasts_s * pick.choice([1.0, 1.2, 3.0]) if pick.random() < plan.limited else None
            waiting = Waiting(f"r{number}", cluster, size, number, pick.choice([0, 0, 0, 1, 5]), limit_s)
            yield at, _Run(waiting, lasts_s, site, at)

    def _arrive(self, now: float, run: object) -> _Site:
        assert isinstance(run, _Run)
        self._runs[run.waiting.run_id] = run
        run.pool.pool.wait(run.waiting)
        self.told.longest_line = max(self.told.longest_line, sum(len(site.pool) for site in self._sites))
        if self._random.random() < self._plan.canceled:
            self._later(now + self._random.expovariate(1 / 300), "cancel", run)
        return run.pool

    def _end(self, now: float, run: object) -> _Site | None:
        assert isinstance(run, _Run)
        return None if run.over else self._free(run)

    def _cancel(self, now: float, run: object) -> _Site | None:
        assert isinstance(run, _Run)
        if run.over:
            return None
        self.told.canceled += 1
        if not run.began:
            run.over = True
            assert run.pool.pool.leave(run.waiting.run_id) == run.waiting
            return run.pool
        return self._free(run)

    def _lose(self, now: float, run: object) -> _Site | None:
        assert isinstance(run, _Run)
        if run.over:
            return None
        self.told.lost += 1
        gone = run.machines[0]
        self._free(run)
        run.pool.free.remove(gone)
        run.pool.promise = None
        self._later(now + self._random.expovariate(1 / 900), "mend", (run.pool, gone))
        return run.pool

    def _mend(self, now: float, what: object) -> _Site:
        assert isinstance(what, tuple)
        site: _Site = what[0]
        site.free.append(what[1])
        return site

    def _free(self, run: _Run) -> _Site:
        site = run.pool
        run.over = True
        site.pool.end(run.waiting.run_id)
        site.free += run.machines
        site.busy[run.waiting.cluster] -= len(run.machines)
        assert len(set(site.free)) == len(site.free) <= site.machines
        return site

    def _decide(self, site: _Site, now: float) -> None:
        site.see()
        while True:
            first = site.pool.first()
            began = time.perf_counter()
            start = site.pool.next(now)
            took = time.perf_counter() - began
            self.told.decisions += 1
            self.told.deciding_s += took
            self.told.longest_s = max(self.told.longest_s, took)
            if start is None:
                break
            assert first is not None and start.out_of_turn == (start.run_id != first.run_id)
            self._start(site, start, now)
            site.see()
        self._note_promise(site, now)

    def _start(self, site: _Site, start: Start, now: float) -> None:
        run = self._runs[start.run_id]
        wanted, cluster = run.waiting.nodes, run.waiting.cluster
        assert not start.grows and wanted <= len(site.free), "more machines than there are"
        if not start.out_of_turn:
            promised, site.promise = site.promise, None  # whoever comes first now was not first when it was told
            if promised is not None and promised[0] == start.run_id:
                assert now <= promised[1] + _TINY, f"{start.run_id} was promised {promised[1]}, began {now}"
            there = len(site.free) + sum(site.busy.values())
            ahead = next(waiting for waiting in site.pool.line(cluster) if waiting.nodes <= there)
            assert ahead == run.waiting, f"{ahead} is before {run.waiting}"
        site.pool.begin(start, now)
        run.machines = [site.free.pop() for _ in range(wanted)]
        run.began = True
        site.busy[cluster] += wanted
        assert site.busy[cluster] <= site.clusters[cluster][1], "more nodes than the cluster may have"
        self.told.started += 1
        self.told.out_of_turn += start.out_of_turn
        if self._random.random() < self._plan.lost:
            self._later(now + run.lasts_s * self._random.random(), "lose", run)
        self._later(now + run.lasts_s, "end", run)
        self.told.waits.append(now - run.came)

    def _note_promise(self, site: _Site, now: float) -> None:
        """What the first in line was told holds until another is first, or a node is lost."""
        first = site.pool.first()
        if first is None:
            site.promise = None
            return
        why = site.pool.why(first.run_id, now)
        assert why is not None
        before = site.promise[1] if site.promise is not None and site.promise[0] == first.run_id else None
        told = [by for by in (before, why.by) if by is not None]
        site.promise = (first.run_id, min(told)) if told else None


def waits_of(told: Told) -> Sequence[float]:
    """The waits at 50, 99 and 100 percent, in simulated seconds."""
    ordered = sorted(told.waits)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1.0)]
