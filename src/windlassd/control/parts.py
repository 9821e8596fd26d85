"""A run's parts, one for each node: what the record has of them, and what all of them together mean.

A part is ``{"rank", "node", "status"}``, once it has ended with its ``outcome``: without the files, and without the
message where it is the only one, as the run's reason has that. The first that failed has ``failed`` 1, the next 2: the
run ends with the words of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass.specs._codec import to_wire
from windlass.specs.launch import Outcome, PartKey
from windlass.specs.run import Reason, RunRecord

GIVEN, PREPARING, RUNNING, ENDED, LOST = "given", "preparing", "running", "ended", "lost"
_OVER = (ENDED, LOST)
Part = Mapping[str, Any]


def given(nodes: Sequence[str]) -> list[Part]:
    """The parts of an attempt that has just got its nodes."""
    return [{"rank": rank, "node": node, "status": GIVEN} for rank, node in enumerate(nodes)]


def of(record: RunRecord, nodes: Sequence[str] = ()) -> list[Part]:
    """The parts of the record's attempt, by rank; of those it has nothing of yet, or no name, with these nodes."""
    known = {int(part["rank"]): part for part in record.parts}
    names = record.nodes or nodes or ("",) * record.spec.node_count
    found = [{**part, **known.get(part["rank"], {})} for part in given(names)]
    return [{**part, "node": part["node"] or names[part["rank"]]} for part in found]


def status_of(record: RunRecord | None, key: PartKey) -> str | None:
    """What the record has of a part: its status; None when nothing."""
    if record is None or record.attempt != key[1]:
        return None
    return next((str(part["status"]) for part in record.parts if _is(part, key[2])), None)


def begun(parts: Sequence[Part], rank: int) -> list[Part]:
    """The parts once one runs; one that has ended stays so."""
    return [_with(part, status=RUNNING) if _is(part, rank) and not is_over(part) else part for part in parts]


def failing(parts: Sequence[Part], rank: int, outcome: Outcome) -> list[Part]:
    """The parts once one is known to fail, though its files are still on their way."""
    return [_told(parts, part, outcome) if _is(part, rank) and not is_over(part) else part for part in parts]


def closing(parts: Sequence[Part], rank: int) -> list[Part]:
    """The parts once the processes of one have ended and its files are still on their way."""
    return [_with(part, closing=True) if _is(part, rank) else part for part in parts]


def over(parts: Sequence[Part], rank: int, outcome: Outcome, status: str = ENDED) -> list[Part]:
    """The parts once one is over, with what came of it; one that was lost may yet end."""
    found = []
    for part in parts:
        if _is(part, rank) and part["status"] != ENDED:
            told = _told(parts, part, outcome)
            part = _with({name: value for name, value in told.items() if name != "closing"}, status=status)
        found.append(part)
    return found


def is_over(part: Part) -> bool:
    """True when nothing more is to be heard of it."""
    return part["status"] in _OVER


def all_over(parts: Sequence[Part]) -> bool:
    """True when nothing more is to be heard of any."""
    return all(is_over(part) for part in parts)


def all_closing(parts: Sequence[Part]) -> bool:
    """True when no process of any runs any more."""
    return all(is_over(part) or part.get("closing") for part in parts)


def first_failed(parts: Sequence[Part]) -> Part | None:
    """The one that failed first."""
    return min((part for part in parts if part.get("failed")), key=lambda part: int(part["failed"]), default=None)


def outcome_of(parts: Sequence[Part]) -> Outcome:
    """What came of several parts that are all over: the words of the first that failed, what all lost together."""
    outcomes = [Outcome.from_wire(part["outcome"]) for part in parts]
    first = first_failed(parts)
    lost = sum(outcome.lost_points for outcome in outcomes)
    peak = max((outcome.peak_memory_bytes or 0 for outcome in outcomes), default=0) or None
    if first is None:
        said = [_named_words(part, Outcome.from_wire(part["outcome"]).message, len(parts)) for part in parts]
        return Outcome(message=" ".join(words for words in said if words), lost_points=lost, peak_memory_bytes=peak)
    found = Outcome.from_wire(first["outcome"])
    message = _named_words(first, found.message, len(parts))
    return replace(found, message=message, lost_points=lost, peak_memory_bytes=peak)


def why_ended(first: Part) -> Reason:
    """Why the others are ended once ``first`` has failed."""
    return Reason("part_failed", f"It was ended because rank {first['rank']} on {first['node']} had failed.")


def _named_words(part: Part, message: str, count: int) -> str:
    """The words of a part with its rank and node, where there are several."""
    if count == 1 or not message or message.startswith("Rank "):
        return message
    return f"Rank {part['rank']} on {part['node']}: {message}"


def _told(parts: Sequence[Part], part: Part, outcome: Outcome) -> Part:
    """The part with its outcome; its number when it failed."""
    if outcome.ok:
        return _with(part, outcome=_brief(outcome, len(parts) == 1))
    number = part.get("failed") or 1 + sum(bool(other.get("failed")) for other in parts)
    return _with(part, outcome=_brief(outcome, len(parts) == 1), failed=number)


def _brief(outcome: Outcome, alone: bool) -> Mapping[str, Any]:
    told = to_wire(replace(outcome, files=(), message="" if alone else outcome.message))
    return {name: value for name, value in told.items() if name != "files"}


def _with(part: Part, **changes: Any) -> Part:
    return {**part, **changes}


def _is(part: Part, rank: int) -> bool:
    return int(part["rank"]) == rank
