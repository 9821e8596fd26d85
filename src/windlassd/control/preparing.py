"""What nodes tell of the environments that they make: how far they are, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.specs.run import Reason, RunRecord
from windlass.specs.status import RunStatus
from windlassd.control import parts
from windlassd.store.base import Writer

KINDS = ("preparing", "prepared")
"""Events of a part: it has begun to make its environment, and it has it (``environment``: what it is there)."""
_STARTING, _PREPARING = "starting", "preparing_nodes"


def note(tx: Writer, record: RunRecord, event: Mapping[str, Any], now: float) -> RunRecord:
    """Keep on the run's record what a part tells of its environment; a queued run then says which nodes are at it."""
    if record.status.final or int(event["attempt"]) != record.attempt:
        return record
    rank, begun = int(event.get("rank", 0)), event["kind"] == "preparing"
    known = {int(part["rank"]): dict(part) for part in parts.of(record)}
    mine = known.setdefault(rank, {"rank": rank, "node": str(event.get("node", "")), "status": parts.GIVEN})
    if mine["status"] not in (parts.GIVEN, parts.PREPARING):
        return record  # told late: it is further by now
    mine["status"] = parts.PREPARING if begun else parts.GIVEN
    if not begun:
        mine["environment"] = dict(event.get("environment") or {})
    found = [known[rank] for rank in sorted(known)]
    record = tx.update_run(record.id, parts=found)
    if record.status is not RunStatus.QUEUED:
        return record
    reason = _reason(tx, record, [str(part["node"]) for part in found if part["status"] == parts.PREPARING])
    if reason is None or reason == record.reason:
        return record
    return tx.transition(record.id, RunStatus.QUEUED, now=now, reason=reason)


def _reason(tx: Writer, record: RunRecord, at_it: list[str]) -> Reason | None:
    """Why the run is not running yet; None when nothing new can be said."""
    if at_it:
        count = len(record.nodes) or record.spec.node_count
        which = "its node makes" if count == 1 else f"{len(at_it)} of {count} nodes make"
        return Reason(_PREPARING, f"{which[0].upper()}{which[1:]} its environment: {', '.join(at_it)}.")
    if record.reason is None or record.reason.code != _PREPARING:
        return None
    return Reason(_STARTING, _starts(tx, record))


def _starts(tx: Writer, record: RunRecord) -> str:
    """What was said before the nodes began, which may have more than their names."""
    history = tx.get_run(record.id, history=True).history
    told = [entry["reason"] for entry in history if (entry.get("reason") or {}).get("code") == _STARTING]
    return str(told[-1]["message"]) if told else f"It starts on {', '.join(record.nodes)}."
