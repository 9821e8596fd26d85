"""A run whose node was lost is begun anew: its next attempt, and what the one before wrote."""

from __future__ import annotations

import glob
import os

from windlass.specs.launch import Outcome
from windlass.specs.run import Reason, RunRecord
from windlass.specs.status import RunStatus, may_follow
from windlassd.blobs.room import remove_tree
from windlassd.blobs.run_folder import ATTEMPTS, NODES, RunFolder, make_read_only
from windlassd.blobs.whole_run import move_new
from windlassd.control.losses import RETRIED
from windlassd.store.base import Writer

_DONE = "aside"
"""In the folder of an attempt all of which is there: what lies in the run's own is the next one's."""
_MOVED = ("work", "files", "spool", "agent", NODES)


def lost_part(record: RunRecord, last: Outcome) -> Outcome | None:
    """Why a run is begun anew, all of whose parts are over, ``last`` being what came of the last; None when it is not.

    One lost part is enough, whichever was the first to fail: the others' scripts fail when one of them is gone.
    """
    if record.attempt > record.spec.max_retries or record.status is RunStatus.CANCEL_REQUESTED:
        return None
    told = [Outcome.from_wire(part["outcome"]) for part in record.parts if part.get("outcome")]
    return next((outcome for outcome in (last, *told) if outcome.reason_code in RETRIED), None)


def begin_anew(tx: Writer, record: RunRecord, outcome: Outcome, now: float) -> RunRecord:
    """The record in line for its next attempt, with no node; every part of the last one has ended."""
    words = f"{outcome.message} Attempt {record.attempt + 1} of {record.spec.max_retries + 1} is to begin."
    tx.update_run(record.id, attempt=record.attempt + 1, nodes=[], parts=[])
    tx.drop_files(record.id)  # ``put_aside`` moves them
    if record.status is RunStatus.NOT_RESPONDING or may_follow(record.status, RunStatus.NOT_RESPONDING):
        return tx.transition(record.id, RunStatus.NOT_RESPONDING, now=now, reason=Reason("retrying", words))
    return tx.transition(record.id, record.status, now=now, reason=Reason("retrying", words))  # it had not started


def put_aside(folder: RunFolder, attempt: int) -> None:
    """Move what an attempt left in the run's folder below ``attempts/N/``; may be repeated, after a kill in between."""
    target = os.path.join(folder.root, ATTEMPTS, str(attempt))
    if os.path.exists(os.path.join(target, _DONE)):
        return
    os.makedirs(target, mode=0o700, exist_ok=True)
    for name in _MOVED:
        source, aside, number = os.path.join(folder.root, name), os.path.join(target, name), 1
        if os.path.isdir(source) and os.path.isdir(aside):  # words that came late made it, and are the newer ones
            move_new(source, aside)
        while os.path.lexists(aside):
            aside, number = os.path.join(target, f"{name}-{number}"), number + 1
        if os.path.lexists(source):
            os.rename(source, aside)
    for arrived in glob.glob(f"{glob.escape(target)}/agent") + glob.glob(f"{glob.escape(target)}/{NODES}/*/agent"):
        remove_tree(arrived)  # what came of a file in part only; an agent that comes late brings it from its beginning
    make_read_only(target)
    with open(os.path.join(target, _DONE), "w"):
        pass
