"""The line in front of each cluster: first come, first served, all nodes of a run or none, and why each waits."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason
from windlassd.compute.base import Engine, JobSpec, NoCapacity


@dataclass(order=True)
class _Waiting:
    turn: float
    run_id: str
    job: JobSpec = field(compare=False)
    placed: asyncio.Future[str] = field(compare=False)


class Line:
    """Runs that wait for nodes, by cluster. Belongs to the loop's thread; it is rebuilt from the store at start.

    Args:
        engine_of: The engine behind a cluster.
    """

    def __init__(self, engine_of: Callable[[ClusterSpec], Engine]) -> None:
        self._engine_of = engine_of
        self._waiting: dict[str, list[_Waiting]] = {}

    def would_wait(self, job: JobSpec) -> bool:
        """True when the job could not start at once."""
        return bool(self._waiting.get(job.cluster.name)) or self._free(job.cluster) < job.node_count

    async def place(self, job: JobSpec, turn: float) -> str:
        """Wait for the job's turn, submit it, and return its native id.

        Place in line goes by ``turn``, the order of the submit calls (and not their times: clocks are set): a run whose
        environment took long to build does not lose its place. Canceling the wait leaves the line.
        """
        waiting = _Waiting(turn, job.launch.run_id, job, asyncio.get_running_loop().create_future())
        line = self._waiting.setdefault(job.cluster.name, [])
        insort(line, waiting)
        try:
            self.pump(job.cluster)
            return await waiting.placed
        finally:
            if waiting in line:
                line.remove(waiting)
                self.pump(job.cluster)

    def pump(self, cluster: ClusterSpec) -> None:
        """Submit from the head of the line as long as the nodes suffice. Call when nodes became free."""
        line = self._waiting.get(cluster.name, [])
        while line:
            head = line[0]
            if head.placed.done():
                line.pop(0)
                continue
            engine = self._engine_of(head.job.cluster)
            try:
                native_id = engine.submit(engine.plan(head.job))
            except NoCapacity:
                return
            except Exception as problem:  # noqa: BLE001  the engine failed for this job; the line goes on
                line.pop(0)
                head.placed.set_exception(problem)
                continue
            line.pop(0)
            head.placed.set_result(native_id)

    def changed(self, cluster: ClusterSpec) -> None:
        """The cluster was given other sizes: those who wait see them at once."""
        for waiting in self._waiting.get(cluster.name, []):
            waiting.job = replace(waiting.job, cluster=cluster)
        self.pump(cluster)

    def length(self, cluster: str) -> int:
        """How many runs wait for the cluster."""
        return len(self._waiting.get(cluster, []))

    def reason(self, cluster: str, run_id: str) -> Reason | None:
        """Why a run waits, now; None when it is not in line."""
        line = self._waiting.get(cluster, [])
        place = next((i for i, w in enumerate(line) if w.run_id == run_id), None)
        if place is None:
            return None
        job = line[place].job
        nodes, free = job.node_count, self._free(job.cluster)
        return Reason(
            "waits_for_nodes",
            f"{_ordinal(place + 1)} in line on {cluster}, waits for {nodes} {'node' if nodes == 1 else 'nodes'}, "
            f"{free} free",
        )

    def _free(self, cluster: ClusterSpec) -> int:
        return self._engine_of(cluster).capacity(cluster).idle


def _ordinal(number: int) -> str:
    if 10 <= number % 100 <= 20:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
