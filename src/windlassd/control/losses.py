"""When a node counts as lost, and what becomes of its run (DESIGN decision 8).

Silence is counted on this machine's clock that only goes forward; what a node's clock says decides nothing. A part with
a lease is given up only when its agent, whose own count began before ours, has ended every process of it. So another
attempt never runs beside an earlier one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from windlass import settings
from windlass.errors import AzureMLException
from windlass.specs.launch import Outcome, PartKey
from windlass.specs.run import RunRecord
from windlassd.compute.base import Engine, JobState, Phase
from windlassd.control.agents import AgentHub
from windlassd.control.core import Core

log = logging.getLogger(__name__)
NODE_LOST = "node_lost"
RETRIED = (NODE_LOST, "place_lost", "lease_lapsed")
"""Codes of what a node's loss does to a run; what a script does itself is never repeated."""
_LEASES = 2
"""After so many leases of silence the agent's own has lapsed: it counts from its last call that was answered."""


class Verdict(Enum):
    """What the silence of a part means."""

    HERE = "here"
    LOST = "lost"
    """It is lost, but its processes may still run: its lease is not over."""
    OVER = "over"
    """It is lost, and another attempt may begin."""


@dataclass(frozen=True)
class Seen:
    """What is known of a part of which something is to be heard."""

    silence_s: float
    """Seconds since its agent called."""
    engine_lost: bool = False
    """The engine says that its place is gone."""
    lease_s: float | None = None


@dataclass(frozen=True)
class Patience:
    """The settings of the same names."""

    heartbeat_timeout_s: float
    node_lost_after_s: float


def verdict(seen: Seen, patience: Patience) -> Verdict:
    """What the silence of a part means; without a lease a lost one is over at once."""
    limits = [patience.node_lost_after_s]
    if seen.engine_lost:
        limits.append(patience.heartbeat_timeout_s)
    fenced_after_s = _LEASES * seen.lease_s if seen.lease_s is not None else 0.0
    if seen.lease_s is not None:
        limits.append(fenced_after_s)
    if seen.silence_s <= min(limits):
        return Verdict.HERE
    return Verdict.OVER if seen.silence_s > fenced_after_s else Verdict.LOST


def lease_of(max_retries: int, elsewhere: bool) -> float | None:
    """The lease of the parts of a run: only where another attempt may start on another machine."""
    return float(settings.get("lease_s")) if elsewhere and max_retries > 0 else None


class Losses:
    """Looks at the runs on engines elsewhere. Belongs to the loop's thread.

    Args:
        lose: Records the end of a part that is over.
        wait: Called with a run of which a part is lost and not over yet, and words for that.
    """

    def __init__(
        self, core: Core, hub: AgentHub, lose: Callable[[PartKey, Outcome], Awaitable[None]],
        wait: Callable[[RunRecord, str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._core = core
        self._hub = hub
        self._lose = lose
        self._wait = wait

    async def look(self, records: Iterable[RunRecord]) -> None:
        """Give up what is lost of these runs, all of which have nodes."""
        patience = Patience(settings.steady("heartbeat_timeout_s"), settings.steady("node_lost_after_s"))
        for engine, found in self._by_engine(records):
            states = engine.poll([_native_id(record) for record in found])
            for record in found:
                await self._look_at(record, states.get(_native_id(record)), patience)

    def _by_engine(self, records: Iterable[RunRecord]) -> Iterable[tuple[Engine, Sequence[RunRecord]]]:
        sorted_out: dict[str, tuple[Engine, list[RunRecord]]] = {}
        for record in records:
            cluster = self._core.cluster_or_none(record.spec.target)
            if cluster is None:
                continue
            try:
                engine = self._core.engine(cluster)
            except AzureMLException as problem:  # such as a package that was removed
                log.error("the nodes of %s cannot be asked for: %s", record.id, problem)
                continue
            if engine.elsewhere:
                sorted_out.setdefault(cluster.engine, (engine, []))[1].append(record)
        return sorted_out.values()

    async def _look_at(self, record: RunRecord, state: JobState | None, patience: Patience) -> None:
        gone = state is None or state.phase is Phase.LOST
        for key in going(record):
            seen = Seen(self._hub.silence_s(key), gone, _lease_of_part(record, key[2]) or self._hub.lease_s(key))
            found = verdict(seen, patience)
            if found is Verdict.HERE:
                continue
            words = _words(record, key, seen, state)
            if found is Verdict.LOST:
                await self._wait(record, f"{words} {_fencing(record, seen)}")
                continue
            log.error("%s: %s", record.id, words)
            await self._lose(key, Outcome(reason_code=NODE_LOST, message=f"{words} {_way_out(record)}".strip()))


def going(record: RunRecord) -> Iterable[PartKey]:
    """The parts of a run of which something is to be heard."""
    over = {part["rank"] for part in record.parts if part["status"] in ("ended", "lost")}
    return [(record.id, record.attempt, rank) for rank in range(len(record.nodes)) if rank not in over]


def _lease_of_part(record: RunRecord, rank: int) -> float | None:
    """The lease that a part was given; what the hub knows of it is gone when its engine could not be had again."""
    return next((float(part["lease_s"]) for part in record.parts if part["rank"] == rank and "lease_s" in part), None)


def _native_id(record: RunRecord) -> str:
    return f"{record.id}.{record.attempt}"


def _words(record: RunRecord, key: PartKey, seen: Seen, state: JobState | None) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() - seen.silence_s))
    said = ""
    if state is not None and state.phase is Phase.LOST and state.message:
        said = f" ({state.message.rstrip('.')})"
    return f"The node {record.nodes[key[2]]} (rank {key[2]}) was lost: nothing was heard from it since {since}{said}."


def _fencing(record: RunRecord, seen: Seen) -> str:
    left = max(0.0, _LEASES * (seen.lease_s or 0.0) - seen.silence_s)
    until = time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + left))
    if record.attempt <= record.spec.max_retries:
        return f"Its processes have ended by {until} at the latest; then attempt {record.attempt + 1} begins."
    return f"Its processes have ended by {until} at the latest; then the run has failed."


def _way_out(record: RunRecord) -> str:
    if record.attempt <= record.spec.max_retries:
        return ""
    if record.spec.max_retries:
        return f"That was attempt {record.attempt} of {record.spec.max_retries + 1}."
    return (
        "See whether that machine is up and reaches this one, then submit again; with max_retries a run whose node is "
        "lost is begun anew by itself."
    )
