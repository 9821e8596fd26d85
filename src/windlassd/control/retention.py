"""Which runs have had their time: chosen by age and deleted when somebody asks, or day by day by the settings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass import settings
from windlass.errors import AzureMLException, UserErrorException, did_you_mean
from windlassd.blobs.room import bytes_on_disk
from windlassd.control.core import Core
from windlassd.control.deletions import Deletions, families
from windlassd.store.base import Reader, RunStub

log = logging.getLogger(__name__)
DAY_S = 86400.0
_LOOK_AGAIN_S = 3600.0
_AT_ONCE = 500


@dataclass(frozen=True)
class Old:
    """Which runs are meant: those that ended, children included, before ``before``."""

    before: float
    """Unix seconds."""
    experiment: str | None = None
    statuses: Sequence[str] = ()
    """One of these; any when empty."""


class Retention:
    """Belongs to the loop's thread.

    Args:
        core: The workspace.
        deletions: What deletes.
        now: Unix seconds.
        wait: Rests that many seconds.
    """

    def __init__(
        self, core: Core, deletions: Deletions, *, now: Callable[[], float] = time.time,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._core = core
        self._deletions = deletions
        self._now = now
        self._wait = wait

    async def run(self) -> None:
        """Apply the settings at once and then every day, until canceled."""
        looked: float | None = None
        while True:
            try:
                self._deletions.resume()  # what could not be freed before, such as code that a client was about to use
                if looked is None or not 0 <= self._now() - looked < DAY_S:  # a clock set back counts as a new day
                    looked = self._now()
                    await self.look()
            except (AzureMLException, OSError):  # such as a full disk, or a settings file half written
                log.exception("old runs could not be deleted")
            await self._wait(_LOOK_AGAIN_S)

    async def look(self) -> Sequence[str]:
        """Delete what the settings say; the ids of what went."""
        days = settings.get("retention_days")
        if days is None:
            return []
        gone: list[str] = []
        more = True
        while more:
            answer = await self.prune(Old(self._now() - days * DAY_S))
            gone += answer["runs"]
            more = answer["more"] and bool(answer["runs"])
        if gone:
            log.info("deleted %d runs that ended more than %g days ago: %s", len(gone), days, ", ".join(gone[:20]))
        return gone

    async def plan(self, old: Old) -> Mapping[str, Any]:
        """What ``prune`` would delete.

        Returns:
            ``runs`` (``id``, ``children``, ``ended``, ``bytes``), how many are ``kept`` for a model or tag though they
            are old, and all ``bytes`` that would come back: folders, contents nobody else has, points.
        """
        return await asyncio.to_thread(lambda: self._measured(self._core.read(lambda tx: _planned(tx, old))))

    async def prune(self, old: Old) -> Mapping[str, Any]:
        """Delete some of them: ``runs``, ``freed_bytes`` as ``Deletions.runs`` has them, and whether there is ``more``.

        A call does a part, so that its caller sees how it goes on.
        """
        chosen, _ = await asyncio.to_thread(lambda: self._core.read(lambda tx: _chosen(tx, old)))
        now = [family[0] for family in chosen[:_AT_ONCE]]
        answer = await self._deletions.runs(now) if now else {"runs": [], "freed_bytes": 0}
        return {**answer, "more": len(chosen) > _AT_ONCE}

    def _measured(self, planned: _Planned) -> Mapping[str, Any]:
        shown, total = [], bytes_on_disk(*filter(None, map(self._core.blobs.path, planned.hashes)))
        for family in planned.chosen:
            size = sum(planned.points.get(run_id, 0) for run_id in family)
            size += bytes_on_disk(*(self._core.folder(run_id).root for run_id in family))
            total += size
            ended = planned.ended[family[0]]
            shown.append({"id": family[0], "children": len(family) - 1, "ended": ended, "bytes": size})
        return {"runs": shown, "kept": planned.kept, "bytes": total}


@dataclass(frozen=True)
class _Planned:
    """What the records say; folders are measured later: the log of writes grows while somebody reads records."""

    chosen: Sequence[Sequence[str]]
    kept: int
    ended: Mapping[str, float | None]
    points: Mapping[str, int]
    """Bytes by run."""
    hashes: set[str]
    """Contents that nobody else has."""


def _planned(tx: Reader, old: Old) -> _Planned:
    chosen, kept = _chosen(tx, old)
    going = [run_id for family in chosen for run_id in family]
    ended = {stub.id: stub.ended for stub in tx.run_stubs()}
    return _Planned(chosen, kept, ended, tx.metric_bytes(going), _only_of(tx, set(going), ended))


def _only_of(tx: Reader, going: set[str], known: Iterable[str]) -> set[str]:
    """Contents that only the snapshots of the runs that go have."""
    names = tx.snapshots_of(known)
    held = {name for run_id, name in names.items() if run_id not in going}
    held |= {model.snapshot_id for model in tx.models() if model.snapshot_id}
    stay = {file["sha256"] for name in held for file in tx.find_snapshot(name) or ()}
    stay |= {file["sha256"] for model in tx.models() for file in model.files}
    free = {names[run_id] for run_id in going if run_id in names} - held
    return {file["sha256"] for name in free for file in tx.find_snapshot(name) or ()} - stay


def _chosen(tx: Reader, old: Old) -> tuple[Sequence[Sequence[str]], int]:
    """Families that may go, oldest first, and how many old ones stay for a model or a tag."""
    if old.experiment is not None and tx.find_experiment(old.experiment) is None:
        near = did_you_mean(old.experiment, list(tx.count_runs()))
        raise UserErrorException(f"There is no experiment {old.experiment!r}.{near} See `windlass experiment`.")
    made_models = {model.run_id for model in tx.models() if model.run_id}
    return choose(tx.run_stubs(), made_models, old, settings.get("retention_keep_tag"))


def choose(
    stubs: Sequence[RunStub], made_models: set[str], old: Old, keep_tag: str
) -> tuple[Sequence[Sequence[str]], int]:
    """Families (a run and all below it) that may go, in the order they were created, and how many old ones stay.

    A family goes when its first run fits and all of it ended in time, none made a model and none has the tag.
    """
    of_id = {stub.id: stub for stub in stubs}
    first = {stub.id for stub in stubs if stub.parent_id is None and _fits(stub, old)}
    chosen, kept = [], 0
    for family in families(stubs, first):
        members = [of_id[run_id] for run_id in family]
        if not all(stub.ended is not None and stub.ended < old.before for stub in members):
            continue
        if any(stub.id in made_models or keep_tag in stub.tags for stub in members):
            kept += 1
        else:
            chosen.append(family)
    return chosen, kept


def _fits(stub: RunStub, old: Old) -> bool:
    return old.experiment in (None, stub.experiment) and (not old.statuses or stub.status in old.statuses)
