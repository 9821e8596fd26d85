"""Which waiting run gets nodes next, and why the others wait: decisions without a clock, an engine or a file.

A ``Pool`` is the machines that some clusters share. Whoever has one tells it what waits, what holds nodes and how many
nodes each cluster has, and asks ``next`` until the answer is None.

- *Order.* Between clusters: ``priority``; then whose turn it is, which goes to the cluster with the least of the
  machines (per node it may have; among equals to the one whose last turn is longest ago) and stays there until its
  first run has begun, however long that takes. Within a cluster: the run's priority, then its arrival.
- *Gang.* A run gets all its nodes or none.
- *Backfill.* While the first in line waits, a later run begins when the first cannot be hurt by it: it ends in time, by
  its limit, for the moment at which the limits of what runs give the first its nodes, or it uses nodes that the first
  has no use for then. Where a run without a limit is in the way that moment is unknown, and only the latter counts.
- *Never stuck.* A run that asks for more nodes than there can be is passed over until there can be.
- *Growth.* Only the first in line may make an elastic cluster grow.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from windlassd.control._ranked import Ranked

Turn = tuple[int, float, str]
_LOOKED_AT = 64
"""Runs of one kind that are looked at for one that may begin out of turn."""


@dataclass(frozen=True)
class Waiting:
    """A run in line."""

    run_id: str
    cluster: str
    nodes: int
    arrival: float
    priority: int = 0
    limit_s: float | None = None
    """The longest it can hold its nodes; None: nobody knows."""

    @property
    def turn(self) -> Turn:
        """Its place among those of its cluster."""
        return (-self.priority, self.arrival, self.run_id)


@dataclass(frozen=True)
class Holding:
    """A run that has nodes, or is ``promised`` some that are still to come."""

    run_id: str
    cluster: str
    nodes: int
    ends_by: float | None = None
    """When it must have ended by its limit, on the clock of ``next``; None: nobody knows."""
    promised: bool = False


@dataclass(frozen=True)
class Nodes:
    """Nodes of a cluster by number; ``idle`` ones may be idle for other clusters of the pool as well."""

    idle: int
    busy: int = 0
    coming: int = 0
    more: int = 0
    """How many could be added to it, beyond those that are coming."""


@dataclass(frozen=True)
class Start:
    """A run that is to begin now."""

    run_id: str
    grows: bool = False
    """Nodes must be added for it."""
    out_of_turn: bool = False


@dataclass(frozen=True)
class Why:
    """Why a run waits."""

    place: int
    """In the line of its cluster, from 1."""
    nodes: int
    free: int
    """Nodes that its cluster could give to whoever is first."""
    most: int | None = None
    """Set when it asks for more nodes than there can be now: how many there can be."""
    first: str | None = None
    """The run that is first in line at these machines, when it is another."""
    holders: Sequence[Holding] = ()
    """For the first: runs whose end gives it its nodes, the soonest first."""
    by: float | None = None
    """For the first: when it has its nodes at the latest; None: nobody knows."""


class _Cluster:
    """Who waits in one cluster: by turn, and by turn among those of one size and about one limit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.priority, self.max_nodes = 0, 0
        self.nodes = Nodes(0)
        self.last_turn = 0
        self.promised = 0
        self.limited = 0
        """Nodes of its runs whose end is known."""
        self.line: Ranked[Turn] = Ranked()
        self._kinds: dict[int, dict[int | None, Ranked[Turn]]] = {}

    def add(self, run: Waiting) -> None:
        self.line.add(run.turn)
        self._kinds.setdefault(run.nodes, {}).setdefault(_about(run.limit_s), Ranked()).add(run.turn)

    def remove(self, run: Waiting) -> None:
        self.line.remove(run.turn)
        kinds, about = self._kinds[run.nodes], _about(run.limit_s)
        kinds[about].remove(run.turn)
        if not kinds[about]:
            del kinds[about]
        if not kinds:
            del self._kinds[run.nodes]

    def first(self, most: int) -> Turn | None:
        """Of those that ask for at most so many nodes."""
        return min(
            (k.first for size, kinds in self._kinds.items() if size <= most for k in kinds.values()), default=None
        )

    def kinds(self, most: int) -> Iterator[tuple[int, int | None, Ranked[Turn]]]:
        """Size, about which limit, and who."""
        for size, kinds in self._kinds.items():
            if size <= most:
                for about, line in kinds.items():
                    yield size, about, line

    @property
    def room(self) -> int:
        """Nodes that it may have beyond those its runs have or are promised."""
        return self.max_nodes - self.nodes.busy - self.promised

    @property
    def share(self) -> float:
        return (self.nodes.busy + self.promised) / max(self.max_nodes, 1)


@dataclass(frozen=True)
class _Gap:
    """What may begin before the first in line: what ends within ``window_s``, or needs no more nodes than these."""

    window_s: float
    others: int
    """For runs of other clusters."""
    own: int
    by: float | None
    holders: Sequence[Holding] = field(default=())


class Pool:
    """Machines, the clusters that share them, and their runs. Not thread-safe; changes nothing outside of itself."""

    def __init__(self) -> None:
        self._clusters: dict[str, _Cluster] = {}
        self._waiting: dict[str, Waiting] = {}
        self._holding: dict[str, Holding] = {}
        self._ends: list[tuple[float, str]] = []
        self._refused: set[str] = set()
        self._turn_of: dict[int, str] = {}
        self._turns = 0

    def see(self, name: str, priority: int, max_nodes: int, nodes: Nodes) -> None:
        """How a cluster is now. What an engine refused before is tried again once anything is different."""
        cluster = self._clusters.setdefault(name, _Cluster(name))
        if (priority, max_nodes, nodes) != (cluster.priority, cluster.max_nodes, cluster.nodes):
            self._refused.clear()
        cluster.priority, cluster.max_nodes, cluster.nodes = priority, max_nodes, nodes

    def forget(self, name: str) -> None:
        """The cluster is gone; nothing waits in it."""
        self._clusters.pop(name, None)

    def wait(self, run: Waiting) -> None:
        """A run takes its place; one that waits already takes its new one."""
        self.leave(run.run_id)
        self._waiting[run.run_id] = run
        self._clusters[run.cluster].add(run)

    def leave(self, run_id: str) -> Waiting | None:
        """A run does not wait any more; it is returned."""
        run = self._waiting.pop(run_id, None)
        if run is not None:
            self._clusters[run.cluster].remove(run)
            self._refused.discard(run_id)
        return run

    def begin(self, start: Start, now: float) -> None:
        """``start`` was done: what it takes is counted until ``see`` tells the cluster's nodes anew."""
        run = self.leave(start.run_id)
        assert run is not None
        cluster = self._clusters[run.cluster]
        if not start.out_of_turn:
            self._turns += 1
            cluster.last_turn = self._turns
            self._turn_of.pop(cluster.priority, None)
        ends_by = None if run.limit_s is None or start.grows else now + run.limit_s
        self.hold(Holding(run.run_id, run.cluster, run.nodes, ends_by, start.grows))
        if not start.grows:
            for other in self._clusters.values():
                busy = other.nodes.busy + (run.nodes if other is cluster else 0)
                idle = max(0, other.nodes.idle - run.nodes)
                other.nodes = Nodes(idle, busy, other.nodes.coming, other.nodes.more)

    def refuse(self, run_id: str) -> None:
        """The engine has no nodes for it whatever the numbers say; until they change, it is not asked again."""
        self._refused.add(run_id)

    def is_refused(self, run_id: str) -> bool:
        """Whether nothing has changed since the engine refused it."""
        return run_id in self._refused

    def hold(self, holding: Holding) -> None:
        """A run has nodes, or is promised some; told again, it is different from before."""
        self.end(holding.run_id)
        self._holding[holding.run_id] = holding
        cluster = self._clusters[holding.cluster]
        if holding.promised:
            cluster.promised += holding.nodes
        elif holding.ends_by is not None:
            cluster.limited += holding.nodes
            insort(self._ends, (holding.ends_by, holding.run_id))

    def end(self, run_id: str) -> Holding | None:
        """The run holds nothing any more; what it had is returned."""
        holding = self._holding.pop(run_id, None)
        if holding is None:
            return None
        cluster = self._clusters[holding.cluster]
        if holding.promised:
            cluster.promised -= holding.nodes
        elif holding.ends_by is not None:
            cluster.limited -= holding.nodes
            del self._ends[bisect_left(self._ends, (holding.ends_by, run_id))]
        return holding

    def is_promised(self, run_id: str) -> bool:
        """True while the run's nodes are still to come."""
        return run_id in self._holding and self._holding[run_id].promised

    def next(self, now: float) -> Start | None:
        """The run to begin now, if any; do it, say ``begin`` or ``refuse``, and ask again."""
        first = self.first()
        if first is None:
            return None
        cluster = self._clusters[first.cluster]
        if first.run_id not in self._refused:
            if first.nodes <= self._free(cluster):
                return Start(first.run_id)
            if first.nodes <= self._reach(cluster):
                return Start(first.run_id, grows=True)
        if self._machines() <= 0:
            return None
        gap = self._gap(first, cluster, now)
        for other in self._in_order():
            if found := self._out_of_turn(other, first, gap):
                return Start(found, out_of_turn=True)
        return None

    def first(self) -> Waiting | None:
        """The first in line; those that cannot run now do not count."""
        clusters = self._in_order()
        if not clusters:
            return None
        priority = clusters[0].priority
        on_turn = next((c for c in clusters if c.name == self._turn_of.get(priority)), clusters[0])
        if on_turn.priority != priority:
            on_turn = clusters[0]
        self._turn_of[priority] = on_turn.name
        turn = on_turn.first(self._most(on_turn))
        assert turn is not None
        return self._waiting[turn[2]]

    def why(self, run_id: str, now: float) -> Why | None:
        """Why a run waits; None when it does not."""
        run = self._waiting.get(run_id)
        if run is None:
            return None
        cluster = self._clusters[run.cluster]
        place, free, most = cluster.line.rank(run.turn) + 1, self._free(cluster), self._most(cluster)
        if run.nodes > most:
            return Why(place, run.nodes, free, most=most)
        first = self.first()
        if first is not None and first.run_id != run_id:
            return Why(place, run.nodes, free, first=first.run_id)
        gap = self._gap(run, cluster, now)
        return Why(place, run.nodes, free, holders=gap.holders, by=gap.by)

    def line(self, cluster: str) -> Iterator[Waiting]:
        """Who waits in a cluster, in order."""
        found = self._clusters.get(cluster)
        return (self._waiting[turn[2]] for turn in found.line) if found else iter(())

    def length(self, cluster: str) -> int:
        """How many wait in a cluster."""
        found = self._clusters.get(cluster)
        return len(found.line) if found else 0

    def waits(self, run_id: str) -> Waiting | None:
        """The run as it waits; None when it does not."""
        return self._waiting.get(run_id)

    def holding(self) -> Sequence[Holding]:
        """What holds nodes."""
        return tuple(self._holding.values())

    def __len__(self) -> int:
        return len(self._waiting)

    def _in_order(self) -> list[_Cluster]:
        """Clusters in which a run waits that can run now, in the order of their turns."""
        found = []
        for cluster in self._clusters.values():
            turn = cluster.first(self._most(cluster)) if cluster.line else None
            if turn is not None:
                found.append((cluster.priority, cluster.share, cluster.last_turn, turn, cluster))
        return [entry[-1] for entry in sorted(found, key=lambda entry: entry[:-1])]

    def _machines(self) -> int:
        """Machines that are idle and nobody's."""
        promised = sum(c.promised for c in self._clusters.values())
        return max((c.nodes.idle for c in self._clusters.values()), default=0) - promised

    def _free(self, cluster: _Cluster) -> int:
        return max(0, min(cluster.nodes.idle - cluster.promised, self._machines(), cluster.room))

    def _reach(self, cluster: _Cluster) -> int:
        """Nodes that it could have with those that are coming or could be added."""
        growth = cluster.nodes.coming + cluster.nodes.more
        return min(cluster.room, self._machines() + growth) if growth else 0

    def _most(self, cluster: _Cluster) -> int:
        """The most nodes that one run of it could have, were it alone."""
        nodes = cluster.nodes
        there = max(c.nodes.idle for c in self._clusters.values()) + sum(c.nodes.busy for c in self._clusters.values())
        return min(cluster.max_nodes, there + nodes.coming + (0 if self._is_refused(cluster) else nodes.more))

    def _is_refused(self, cluster: _Cluster) -> bool:
        return any(self._waiting[run_id].cluster == cluster.name for run_id in self._refused)

    def _gap(self, first: Waiting, cluster: _Cluster, now: float) -> _Gap:
        """What is left over while ``first`` waits."""
        machines, room, need = self._machines(), cluster.room, first.nodes
        # Whatever ends in its own cluster until it has room there gives that many machines back as well.
        always = machines + max(0, need - room) - need
        known = sum(c.limited for c in self._clusters.values())
        holders: list[Holding] = []
        if machines + known < need or room + cluster.limited < need:
            return _Gap(0.0, always, -1, None, self._in_the_way(cluster, machines >= need))
        by = now
        for ends_by, run_id in self._ends:
            if machines >= need and room >= need:
                break
            holding = self._holding[run_id]
            if room < need and machines >= need and holding.cluster != cluster.name:
                machines += holding.nodes
                continue
            holders.append(holding)
            by = max(now, ends_by)
            machines += holding.nodes
            room += holding.nodes if holding.cluster == cluster.name else 0
        extra = machines - need
        return _Gap(by - now, max(always, extra), min(extra, room - need), by, holders)

    def _in_the_way(self, cluster: _Cluster, own: bool) -> Sequence[Holding]:
        """Who holds nodes that the first in line needs, when nobody knows how long: of its own cluster only, or all."""
        found = [h for h in self._holding.values() if h.cluster == cluster.name or not own]
        return sorted(found, key=lambda h: (h.ends_by is None, h.ends_by or 0.0, h.run_id))[:_LOOKED_AT]

    def _out_of_turn(self, cluster: _Cluster, first: Waiting, gap: _Gap) -> str | None:
        """The first of a cluster's runs that may begin before ``first``."""
        best: Turn | None = None
        extra = gap.own if cluster.name == first.cluster else gap.others
        for size, about, line in cluster.kinds(self._free(cluster)):
            if best is not None and line.first > best:
                continue
            if size > extra and (about is None or gap.window_s < _least(about)):
                continue
            for number, turn in enumerate(line):
                if number == _LOOKED_AT or (best is not None and turn > best):
                    break
                run = self._waiting[turn[2]]
                if run.run_id in self._refused or run is first:
                    continue
                if size <= extra or (run.limit_s is not None and run.limit_s <= gap.window_s):
                    best = turn
                    break
        return best[2] if best else None


def _about(limit_s: float | None) -> int | None:
    """Limits of one power of two are of one kind."""
    return None if limit_s is None else int(limit_s).bit_length()


def _least(about: int) -> float:
    return float(1 << (about - 1)) if about else 0.0
