"""What agents tell: events that move runs, and spools that become metrics. Everything may come twice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass.errors import UserErrorException
from windlass.specs import spool as spool_format
from windlass.specs.launch import LaunchSpec, Outcome, PartKey
from windlass.specs.run import Reason, RunRecord
from windlass.specs.status import RunStatus, may_follow
from windlassd.control import parts, preparing, retries
from windlassd.control.agents import AgentHub
from windlassd.control.conductor import CANCELED, Conductor
from windlassd.control.core import Core
from windlassd.control.data import register_outputs
from windlassd.control.interactive import failed_by_script
from windlassd.control.queue import Line
from windlassd.control.submit import job_of
from windlassd.store.base import Writer

log = logging.getLogger(__name__)
_AT_ONCE = 64 << 10
RECORDED = ("started", "finalizing", "ended", *preparing.KINDS)


class Events:
    """Applies what agents tell. Belongs to the loop's thread.

    Args:
        verify: Called with the id of a run that has ended, whose files are to be checked and synced.
    """

    def __init__(
        self, core: Core, line: Line, hub: AgentHub, conductor: Conductor, verify: Callable[[str], None]
    ) -> None:
        self._core = core
        self._line = line
        self._hub = hub
        self._conductor = conductor
        self._verify = verify

    async def take(self, agent: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Apply a batch in its order; durable when this returns."""
        for event in events:
            self._hub.heard(agent, part_of(event), started=event["kind"] == "started")
        recorded = [_at_our_time(e, self._hub.ahead_s(agent)) for e in events if e["kind"] in RECORDED]
        if recorded:
            records = await self._core.write(lambda tx: [self._try(tx, e) for e in recorded])
            for event, record in zip(recorded, records, strict=True):
                if record is not None:
                    self._follow_up(event, record)
                elif event["kind"] == "ended":  # its run was deleted
                    self._hub.forget(part_of(event))
        for event in events:
            if event["kind"] == "grew":
                self._core.bus.touch(event["run_id"], "log")
            elif event["kind"] == "changed":
                self._core.bus.touch(event["run_id"], "files")

    async def lose(self, key: PartKey, outcome: Outcome) -> None:
        """A part is lost: no more is to be heard of it, and what came of it is ``outcome``."""
        run_id, attempt, rank = key
        now = time.time()

        def work(tx: Writer) -> RunRecord | None:
            record = tx.find_run(run_id)
            if record is None or record.attempt != attempt:
                return None
            return _part_over(tx, record, rank, outcome, now, status=parts.LOST)

        record = await self._core.write(work)
        self._hub.lose(key)
        if record is not None:
            self._part_is_over(record, attempt)
            self._core.bus.touch(run_id, "run")

    async def ingest(
        self, run_id: str, spool: str, start: int, data: bytes, last: bool = False, agent: str | None = None
    ) -> int:  # fmt: skip
        """Add a piece of a spool to the run's metrics; the offset that is held afterwards.

        ``last`` says that the piece ends with the spool: an unfinished frame at its end stays one. Points that an agent
        brings get the time that this machine's clock showed: those of several nodes are put in order by it.
        """
        if len(data) > _AT_ONCE:  # a full piece takes 50 ms, for which the loop would do nothing else
            length, frames, torn = await asyncio.to_thread(_decoded, data, last)
        else:
            length, frames, torn = _decoded(data, last)
        end = start + length
        if agent is not None and (ahead_s := self._hub.ahead_s(agent)):
            frames = [_shifted(frame, round(ahead_s * 1_000_000)) for frame in frames]
        for words in torn:
            log.error("spool %s of %s is damaged: %s", spool, run_id, words)

        def work(tx: Writer) -> int:
            if tx.find_run(run_id) is None:
                raise UserErrorException(f"There is no run {run_id!r}.")
            try:
                return tx.append(run_id, spool, start, end, frames)
            except UserErrorException as damage:  # the frame that names a series was a damaged one
                log.error("a batch of spool %s of %s is lost: %s", spool, run_id, damage)
                return tx.append(run_id, spool, start, end, [_lost(len(frames))])

        held = await self._core.write(work)
        if frames:
            self._core.bus.touch(run_id, "metrics")
        return held

    def _try(self, tx: Writer, event: Mapping[str, Any]) -> RunRecord | None:
        """Record one event; one that makes no sense must not keep the others from being recorded."""
        try:
            return self._record(tx, event)
        except (UserErrorException, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            log.exception("this event of an agent makes no sense: %r", event)
            return None

    def _record(self, tx: Writer, event: Mapping[str, Any]) -> RunRecord | None:
        record = tx.find_run(event["run_id"])
        if record is None:
            return None
        now = min(float(event["time"]), time.time())  # when it happened, not when a server was there to hear of it
        if event["kind"] in preparing.KINDS:
            return preparing.note(tx, record, event, now)
        rank, late = part_of(event)[2], int(event["attempt"]) != record.attempt
        if event["kind"] == "started":
            return record if late else _started(tx, record, rank, event, now)
        outcome = Outcome.from_wire(event.get("outcome") or {})
        if event["kind"] == "finalizing":
            return record if late else _closing(tx, record, rank, outcome, now)
        if rank == 0 and not late:
            tx.keep_files(record.id, outcome.files)
        return record if late else _part_over(tx, record, rank, outcome, now)

    def _follow_up(self, event: Mapping[str, Any], record: RunRecord) -> None:
        if event["kind"] == "started" and not record.status.final and int(event["attempt"]) == record.attempt:
            self._take_over(record, event)
            if (cluster := self._core.cluster_or_none(record.spec.target)) is not None:
                self._line.started(cluster, f"{record.id}.{event['attempt']}")
        if event["kind"] == "ended":
            self._hub.forget(part_of(event))
            self._part_is_over(record, int(event["attempt"]))
        elif event["kind"] == "finalizing":
            self._end_the_others(record)
        self._core.bus.touch(record.id, "run")

    def _part_is_over(self, record: RunRecord, attempt: int) -> None:
        if attempt == record.attempt and not (record.status.final or parts.all_over(parts.of(record))):
            return self._end_the_others(record)
        if attempt == record.attempt:
            self._conductor.drop(record.id)
        cluster = self._core.cluster_or_none(record.spec.target)
        if cluster is not None and (attempt != record.attempt or parts.all_over(parts.of(record))):
            self._core.engine(cluster).ended(f"{record.id}.{attempt}")
            self._line.pump(cluster)
        if record.status.final:
            self._verify(record.id)
        elif attempt < record.attempt and not record.nodes:
            self._conductor.begin_anew(record)
        self._core.bus.touch(record.id, "files")

    def _end_the_others(self, record: RunRecord) -> None:
        """The first part to fail ends the run: the others are told to end."""
        first = parts.first_failed(record.parts)
        cluster = self._core.cluster_or_none(record.spec.target)
        if first is not None and len(record.parts) > 1 and cluster is not None:
            self._core.engine(cluster).cancel(f"{record.id}.{record.attempt}", parts.why_ended(first))

    def _take_over(self, record: RunRecord, event: Mapping[str, Any]) -> None:
        """A server that was killed right after giving the run to its agents had not written down its nodes yet.

        Parts that it did not come to give are given now.
        """
        cluster, native_id = self._core.cluster_or_none(record.spec.target), f"{record.id}.{event['attempt']}"
        if cluster is None or native_id in (engine := self._core.engine(cluster)).poll([native_id]):
            return
        self._conductor.drop(record.id)
        job = job_of(self._core, record.id, record.spec, python="", attempt=event["attempt"])
        if "launch" in event:
            launch = LaunchSpec.from_wire(event["launch"])
            job = replace(job, launch=replace(
                launch, run_id=record.id, attempt=record.attempt, node="", node_rank=0, nodes=(), addresses=(),
                node_variables={},
            ))  # fmt: skip
        engine.reattach(job, record.nodes, True)
        self._line.hold(job)


def _at_our_time(event: Mapping[str, Any], ahead_s: float) -> Mapping[str, Any]:
    """The event of an agent whose clock is ahead by so much, with the time that this machine's clock showed."""
    return {**event, "time": float(event["time"]) - ahead_s} if ahead_s else event


def _shifted(frame: spool_format.Frame, ahead_us: int) -> spool_format.Frame:
    """A point with the time that this machine's clock showed; what has no time stays as it is."""
    return frame._replace(time_us=max(0, frame.time_us - ahead_us)) if frame.time_us else frame


def part_of(event: Mapping[str, Any]) -> PartKey:
    """The part that an event is about; agents before protocol 4 know no ranks."""
    return (str(event["run_id"]), int(event["attempt"]), int(event.get("rank", 0)))


def _decoded(data: bytes, last: bool) -> tuple[int, Sequence[spool_format.Frame], Sequence[str]]:
    """How many bytes of ``data`` are whole frames, these frames, and what is said of those that are damaged."""
    length = spool_format.whole_frames(data, last)
    frames, torn = spool_format.sound_frames(data[:length])
    return length, frames, torn


def _lost(count: int) -> spool_format.Frame:
    return spool_format.Frame(spool_format.LOST, 0, 0, None, count)


def _step(tx: Writer, record: RunRecord, status: RunStatus, now: float, reason: Reason) -> RunRecord:
    return tx.transition(record.id, status, now=now, reason=reason) if may_follow(record.status, status) else record


def _runs_on(record: RunRecord) -> str:
    """Where it runs, with what ``starting`` had to say (such as a GPU that is not there)."""
    if record.reason and record.reason.code == "starting":
        return record.reason.message.replace("It starts on", "It runs on", 1)
    return f"It runs on {', '.join(record.nodes)}." if record.nodes else "It runs."


def _started(tx: Writer, record: RunRecord, rank: int, event: Mapping[str, Any], now: float) -> RunRecord:
    nodes = [str(node) for node in event.get("nodes") or [event["node"]]]
    if record.status.final:
        return record
    named: dict[str, Any] = {} if record.nodes else {"nodes": nodes}
    if "launch" in event and not record.environment:
        named["environment"] = _environment_of(LaunchSpec.from_wire(event["launch"]))
    runs = _runs_on(record)
    record = tx.update_run(record.id, parts=parts.begun(parts.of(record, nodes), rank), **named)
    return _step(tx, record, RunStatus.RUNNING, now, Reason("running", runs))


def _environment_of(launch: LaunchSpec) -> Mapping[str, Any]:
    """What another part needs of the environment that nobody came to write down."""
    container = launch.container
    inside = {"image": container.image, "engine": container.engine} if container else {}
    return {"python": launch.python, **inside}


def _closing(tx: Writer, record: RunRecord, rank: int, outcome: Outcome, now: float) -> RunRecord:
    """The processes of a part have ended. The first that failed is known from here on."""
    if record.status.final:
        return record
    found = parts.of(record)
    if len(found) > 1:
        found = parts.closing(found if outcome.ok else parts.failing(found, rank, outcome), rank)
        record = tx.update_run(record.id, parts=found)
        if not parts.all_closing(found):
            return record
    return _step(tx, record, RunStatus.FINALIZING, now, Reason("finalizing", "Its outputs are being kept."))


def _part_over(
    tx: Writer, record: RunRecord, rank: int, outcome: Outcome, now: float, status: str = parts.ENDED
) -> RunRecord:
    """Write down what came of a part, and with the last of them what came of the run."""
    found = parts.over(parts.of(record), rank, outcome, status)
    record = tx.update_run(record.id, parts=found)
    if record.status.final or not parts.all_over(found):
        return record
    if (lost := retries.lost_part(record, outcome)) is not None:
        return retries.begin_anew(tx, record, lost, now)
    alone = len(found) == 1
    verified = alone and record.attempt == 1 and all(f.get("sha256") for f in outcome.files)
    return _end(tx, record, outcome if alone else parts.outcome_of(found), now, verified)


def _end(tx: Writer, record: RunRecord, outcome: Outcome, now: float, verified: bool) -> RunRecord:
    """The run's final status."""
    lost = max(record.lost_points, outcome.lost_points)
    tx.update_run(
        record.id, exit_code=outcome.exit_code, exit_signal=outcome.exit_signal, verified=verified, lost_points=lost
    )  # fmt: skip
    asked_to_cancel = record.status is RunStatus.CANCEL_REQUESTED
    if not asked_to_cancel:
        record = _step(tx, record, RunStatus.FINALIZING, now, Reason("finalizing", "Its outputs are being kept."))
    said = failed_by_script(tx, record.id) if outcome.ok else None
    if said is not None and not asked_to_cancel:
        return tx.transition(record.id, RunStatus.FAILED, now=now, reason=said)
    if outcome.ok:
        register_outputs(tx, record, now)
        return tx.transition(
            record.id, RunStatus.COMPLETED, now=now, reason=Reason("completed", _ended_well(outcome, lost))
        )
    if asked_to_cancel:
        return tx.transition(record.id, RunStatus.CANCELED, now=now, reason=CANCELED)
    return tx.transition(record.id, RunStatus.FAILED, now=now, reason=Reason(outcome.reason_code, outcome.message))


def _ended_well(outcome: Outcome, lost: int) -> str:
    words = ["Every process ended with exit code 0.", outcome.message]
    if lost:
        words.append(f"{lost} metric points are lost: the disk was full or read-only, or their file was damaged.")
    return " ".join(w for w in words if w)
