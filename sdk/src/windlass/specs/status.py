"""The status of a run and the one table of transitions that are allowed (SPEC section 2)."""

from __future__ import annotations

from enum import Enum
from typing import FrozenSet, Mapping


class RunStatus(str, Enum):
    """Status of a run; names and order are v1's (``azureml.core.run.RunStatus``)."""

    NOT_STARTED = "NotStarted"
    STARTING = "Starting"
    PROVISIONING = "Provisioning"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    NOT_RESPONDING = "NotResponding"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def final(self) -> bool:
        """True when the run has ended; a finished run never changes status."""
        return self in FINAL

    def __str__(self) -> str:
        return self.value


_ORDER = (
    RunStatus.NOT_STARTED,
    RunStatus.STARTING,
    RunStatus.PROVISIONING,
    RunStatus.PREPARING,
    RunStatus.QUEUED,
    RunStatus.RUNNING,
    RunStatus.FINALIZING,
)
FINAL: FrozenSet[RunStatus] = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED})
HELD_A_NODE: FrozenSet[RunStatus] = frozenset({RunStatus.RUNNING, RunStatus.FINALIZING, RunStatus.NOT_RESPONDING})


def _table() -> Mapping[RunStatus, FrozenSet[RunStatus]]:
    """Each status with those that may follow it: any later one of the order (some are skipped, none repeats)."""
    allowed = {}
    for place, status in enumerate(_ORDER):
        later = set(_ORDER[place + 1 :]) | {RunStatus.FAILED}
        if status is not RunStatus.FINALIZING:
            later.add(RunStatus.CANCEL_REQUESTED)
        allowed[status] = later
    allowed[RunStatus.RUNNING] |= {RunStatus.NOT_RESPONDING, RunStatus.COMPLETED}
    allowed[RunStatus.FINALIZING] |= {RunStatus.NOT_RESPONDING, RunStatus.COMPLETED}
    allowed[RunStatus.NOT_RESPONDING] = {
        RunStatus.RUNNING,
        RunStatus.FINALIZING,
        RunStatus.CANCEL_REQUESTED,
        RunStatus.COMPLETED,
        RunStatus.FAILED,
    }
    allowed[RunStatus.CANCEL_REQUESTED] = {RunStatus.CANCELED, RunStatus.COMPLETED, RunStatus.FAILED}
    for status in FINAL:
        allowed[status] = set()
    return {status: frozenset(then) for status, then in allowed.items()}


ALLOWED: Mapping[RunStatus, FrozenSet[RunStatus]] = _table()


def may_follow(before: RunStatus, after: RunStatus) -> bool:
    """True when a run in status ``before`` may become ``after``."""
    return after in ALLOWED[before]
