"""What agents tell: events that move runs, and spools that become metrics. Everything may come twice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windlass.errors import UserErrorException
from windlass.specs import spool as spool_format
from windlass.specs.launch import Outcome
from windlass.specs.run import Reason, RunRecord
from windlass.specs.status import RunStatus, may_follow
from windlassd.control.agents import AgentHub
from windlassd.control.conductor import ATTEMPT, CANCELED, Conductor
from windlassd.control.core import Core
from windlassd.control.data import register_outputs
from windlassd.control.interactive import failed_by_script
from windlassd.control.queue import Line
from windlassd.control.submit import job_of
from windlassd.store.base import Writer

log = logging.getLogger(__name__)
_AT_ONCE = 64 << 10
RECORDED = ("started", "finalizing", "ended")


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
            self._hub.heard(agent, (event["run_id"], event["attempt"]), started=event["kind"] == "started")
        recorded = [e for e in events if e["kind"] in RECORDED]
        if recorded:
            records = await self._core.write(lambda tx: [self._try(tx, e) for e in recorded])
            for event, record in zip(recorded, records, strict=True):
                if record is not None:
                    self._follow_up(event, record)
                elif event["kind"] == "ended":  # its run was deleted
                    self._hub.forget((event["run_id"], event["attempt"]))
        for event in events:
            if event["kind"] == "grew":
                self._core.bus.touch(event["run_id"], "log")
            elif event["kind"] == "changed":
                self._core.bus.touch(event["run_id"], "files")

    async def ingest(self, run_id: str, spool: str, start: int, data: bytes, last: bool = False) -> int:
        """Add a piece of a spool to the run's metrics; the offset that is held afterwards.

        ``last`` says that the piece ends with the spool: an unfinished frame at its end stays one.
        """
        if len(data) > _AT_ONCE:  # a full piece takes 50 ms, for which the loop would do nothing else
            length, frames, torn = await asyncio.to_thread(_decoded, data, last)
        else:
            length, frames, torn = _decoded(data, last)
        end = start + length
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
        except (UserErrorException, KeyError, TypeError, ValueError):
            log.exception("this event of an agent makes no sense: %r", event)
            return None

    def _record(self, tx: Writer, event: Mapping[str, Any]) -> RunRecord | None:
        record = tx.find_run(event["run_id"])
        if record is None:
            return None
        now = min(float(event["time"]), time.time())  # when it happened, not when a server was there to hear of it
        if event["kind"] == "started":
            return _step(tx, record, RunStatus.RUNNING, now, Reason("running", _runs_on(record)))
        if event["kind"] == "finalizing":
            return _step(tx, record, RunStatus.FINALIZING, now, Reason("finalizing", "Its outputs are being kept."))
        return _end(tx, record, Outcome.from_wire(event["outcome"]), now)

    def _follow_up(self, event: Mapping[str, Any], record: RunRecord) -> None:
        key = (event["run_id"], event["attempt"])
        if event["kind"] == "started" and not record.nodes:
            self._take_over(record, event)
        if event["kind"] == "ended":
            self._conductor.drop(record.id)
            self._hub.forget(key)
            cluster = self._core.cluster_or_none(record.spec.target)
            if cluster is not None:
                self._core.engine(cluster).ended(f"{record.id}.{event['attempt']}")
                self._line.pump(cluster)
            self._verify(record.id)
            self._core.bus.touch(record.id, "files")
        self._core.bus.touch(record.id, "run")

    def _take_over(self, record: RunRecord, event: Mapping[str, Any]) -> None:
        """A server that was killed right after giving the run to its agent had not written down its nodes yet."""
        self._conductor.drop(record.id)
        job = job_of(self._core, record.id, record.spec, python="", attempt=ATTEMPT)
        self._core.engine(job.cluster).reattach(job, [event["node"]], True)
        written = self._core.store.write(lambda tx: tx.update_run(record.id, nodes=[event["node"]]))
        written.add_done_callback(lambda _: self._core.touch_soon(record.id, "run"))


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


def _end(tx: Writer, record: RunRecord, outcome: Outcome, now: float) -> RunRecord:
    """Keep what the agent brings, and the final status unless the run has one already."""
    tx.keep_files(record.id, outcome.files)
    if record.status.final:
        return record
    verified = all(f.get("sha256") for f in outcome.files)
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
