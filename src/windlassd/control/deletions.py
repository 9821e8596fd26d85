"""Deleting runs, experiments and models, and freeing what they took: files, contents, room in the database.

A deletion has two parts. One transaction forgets the records and notes what they leave behind; from then on they are
gone for everybody. Then ``free`` removes the folders, the snapshots that nobody has any more, their contents, and gives
the database's free room back to the disk, and takes the notes away. Killed in between, the next start goes on from the
notes. While a backup is made nothing is freed: it counts on what the records of its moment refer to.

On a full disk a deletion gives up the room that is set aside for this, which is set aside again when there is some.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from windlass.errors import AzureMLException, ServiceUnavailable, UserErrorException
from windlassd.blobs.reserve import Reserve
from windlassd.blobs.room import bytes_on_disk, remove_tree
from windlassd.control.core import Core
from windlassd.store.base import BLOBS, RUN, SNAPSHOT, Conflict, Deletion, RunStub, StoreFull, Writer

T = TypeVar("T")
log = logging.getLogger(__name__)
_AT_ONCE = 50
_PATIENCE_S = 60.0


class Deletions:
    """Belongs to the loop's thread.

    Args:
        core: The workspace.
        awaited: Contents that a client was told need not be sent, for a snapshot it has yet to use.
        expected: Snapshots that a client was told are here, and has yet to use.
        promise: Called before a deletion: sees that what is expected can be had after a restart, too.
    """

    def __init__(
        self, core: Core, awaited: Callable[[], set[str]] = set, expected: Callable[[], set[str]] = set,
        promise: Callable[[], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        self._core = core
        self._awaited = awaited
        self._expected = expected
        self._promise = promise
        self._reserve = Reserve(core.workspace_dir)
        self._freeing: asyncio.Task[int] | None = None
        self._asked_again = False
        self._at_work = False

    def resume(self) -> None:
        """After a start, and now and then: free what there was no time for, and see that room is set aside."""
        if self._core.read(lambda tx: tx.deletions()):
            self._begin()
        else:
            self._reserve.make()

    def busy(self) -> bool:
        """True while something is being freed, or waits for that."""
        return self._freeing is not None and not self._freeing.done()

    def close(self) -> None:
        """Stop after the step under way; the next start goes on."""
        if self._freeing:
            self._freeing.cancel()

    async def runs(self, run_ids: Sequence[str]) -> Mapping[str, Any]:
        """Delete ended runs with their children; those that are not there count as deleted before.

        Returns:
            ``runs`` (ids, children too) and ``freed_bytes``: None when that goes on in the background.

        Raises:
            Conflict: one of them, or a child, has not ended; nothing of it is deleted.
        """
        stubs = await asyncio.to_thread(self._core.read, lambda tx: tx.run_stubs(run_ids))
        wanted = families(stubs, set(run_ids))
        going = {stub.id: stub for stub in stubs if stub.ended is None}
        for family in wanted:
            if active := [run_id for run_id in family if run_id in going]:
                raise Conflict(_goes_on(family[0], active[0], going[active[0]].status))
        return await self._delete(wanted)

    async def experiment(self, name: str) -> Mapping[str, Any]:
        """Delete an experiment with its runs and their files; models made by them stay.

        Raises:
            Conflict: a run has not ended.
        """
        stubs = await asyncio.to_thread(self._core.read, lambda tx: tx.run_stubs(experiment=name))
        if any(stub.ended is None for stub in stubs):
            raise Conflict(f"Runs of the experiment {name!r} have not ended. Cancel them or wait, then delete it.")
        answer = await self._delete(families(stubs, {stub.id for stub in stubs if stub.parent_id is None}))
        rest = await self._write(lambda tx: tx.delete_experiment(name, time.time()))
        if rest:  # came to be meanwhile
            self._begin()
        return {**answer, "runs": [*answer["runs"], *rest]}

    async def model(self, name: str, version: int) -> None:
        """Delete a version; contents that nothing else holds are freed."""
        if self._promise:
            await self._promise()
        await self._write(lambda tx: tx.delete_model(name, version, time.time()))
        await self.free()

    async def contents(self, hashes: Iterable[str]) -> None:
        """Free those of the contents that nothing has and nobody is about to use: the doctor found them.

        Raises:
            ServiceUnavailable: not now, and that may last.
        """
        if self._core.freeing.locked():
            raise ServiceUnavailable(
                "While a backup is made, or what was deleted is freed, nothing else is. Try again when that is done."
            )
        async with self._core.freeing:
            await self._free_blobs([Deletion(0, BLOBS, json.dumps(sorted(hashes)))])

    async def free(self) -> int | None:
        """Free all that is deleted; bytes of the files that went, or None when it goes on in the background.

        So it does while a backup is made, and when it takes long.
        """
        task = self._begin()
        if self._core.freeing.locked() and not self._at_work:
            return None
        done, _ = await asyncio.wait([task], timeout=_PATIENCE_S)
        return task.result() if done else None

    async def _delete(self, wanted: Iterable[Sequence[str]]) -> Mapping[str, Any]:
        gone: list[str] = []
        if self._promise:
            await self._promise()
        before = self._core.store.space().bytes
        for batch in _batches(wanted):
            gone += await self._forget(batch)
        freed = await self.free() if gone else 0
        if freed is not None:
            freed = max(0, freed + before - self._core.store.space().bytes)
        return {"runs": gone, "freed_bytes": freed}

    async def _forget(self, batch: Sequence[Sequence[str]]) -> list[str]:
        """Delete families in one write; one by one when the disk has no room for so much at once."""
        try:
            ids = [run_id for family in batch for run_id in family]
            return list(await self._write(lambda tx: tx.delete_runs(ids, time.time())))
        except StoreFull:
            if len(batch) == 1:
                raise
        gone: list[str] = []
        for family in batch:
            gone += await self._write(lambda tx, ids=family: tx.delete_runs(ids, time.time()))  # type: ignore[misc]
            await self.free()
        return gone

    async def _write(self, work: Callable[[Writer], T]) -> T:
        """``Core.write``; what finds the disk full gets the room that is set aside."""
        try:
            return await self._core.write(work)
        except StoreFull:
            if not await asyncio.to_thread(self._reserve.give_up):
                raise
        log.warning("the disk is full: the room that was set aside for deletions is given up")
        return await self._core.write(work)

    def _begin(self) -> asyncio.Task[int]:
        if self._freeing is None or self._freeing.done():
            self._freeing = asyncio.get_running_loop().create_task(self._free(), name="free")
        else:
            self._asked_again = True
        return self._freeing

    async def _free(self) -> int:
        freed = 0
        async with self._core.freeing:
            self._at_work = True
            try:
                self._asked_again = True
                while self._asked_again:
                    self._asked_again = False
                    freed += await self._free_noted()
                    await self._core.shrink()
            except (AzureMLException, OSError) as problem:  # such as a full disk: the notes stay
                log.warning("not all that was deleted could be freed; it is tried again later: %s", problem)
            finally:
                self._at_work = False
                await asyncio.to_thread(self._reserve.make)
        return freed

    async def _free_noted(self) -> int:
        """One look at all notes; what a snapshot leaves is noted anew and freed in the same call."""
        freed, tried = 0, set[Deletion]()
        while noted := [d for d in self._core.read(lambda tx: tx.deletions()) if d not in tried]:
            tried.update(noted)
            of_kind = {kind: [d for d in noted if d.kind == kind] for kind in (RUN, SNAPSHOT, BLOBS)}
            for place in range(0, len(of_kind[RUN]), _AT_ONCE):
                freed += await self._free_runs(of_kind[RUN][place : place + _AT_ONCE])
            await self._drop_snapshots(of_kind[SNAPSHOT])
            freed += await self._free_blobs(of_kind[BLOBS])
        return freed

    async def _free_runs(self, noted: Sequence[Deletion]) -> int:
        freed, done = 0, []
        for deletion in noted:
            try:
                freed += await asyncio.to_thread(self._remove_folders, deletion.what)
            except OSError as problem:
                log.warning("the folder of the deleted run %s is not free yet: %s", deletion.what, problem)
            else:
                done.append(deletion.number)
        await self._write(lambda tx: tx.forget_deletions(done))
        return freed

    def _remove_folders(self, run_id: str) -> int:
        places = [self._core.folder(run_id).root, os.path.join(self._core.workspace_dir, "clients", run_id)]
        size = bytes_on_disk(*places)
        for place in places:
            remove_tree(place)
        return size

    async def _drop_snapshots(self, noted: Sequence[Deletion]) -> None:
        ids = {deletion.what for deletion in noted} - self._expected()
        if not ids:
            return
        unused, newest = await asyncio.to_thread(self._core.read, lambda tx: tx.unused_snapshots(ids))
        for deletion in noted:
            if deletion.what in ids - self._expected():
                await self._write(lambda tx, d=deletion: _drop(tx, d, d.what in unused, newest))  # type: ignore[misc]

    async def _free_blobs(self, noted: Sequence[Deletion]) -> int:
        hashes = {sha256 for deletion in noted for sha256 in json.loads(deletion.what)}
        if not hashes:
            return 0
        known, used = await asyncio.to_thread(self._core.read, lambda tx: (tx.snapshot_ids(), tx.used_blobs(hashes)))
        async with self._core.keeping:  # submits wait for this: only what came meanwhile is looked at
            used |= await asyncio.to_thread(self._core.read, lambda tx: tx.used_blobs(hashes, known))
            awaited = self._awaited()
            freed = await asyncio.to_thread(self._remove_blobs, hashes - used - awaited)
            done = [d.number for d in noted if not awaited.intersection(json.loads(d.what))]
            await self._write(lambda tx: tx.forget_deletions(done))
        return freed

    def _remove_blobs(self, hashes: Iterable[str]) -> int:
        freed = 0
        for sha256 in hashes:
            if path := self._core.blobs.path(sha256):
                freed += bytes_on_disk(path)
                self._core.blobs.delete(sha256)
        return freed


def families(stubs: Sequence[RunStub], wanted: set[str]) -> Sequence[Sequence[str]]:
    """For each of the wanted runs its id and those of all below it; one that lies below another is with that one."""
    of_parent: dict[str, list[str]] = {}
    for stub in stubs:
        if stub.parent_id is not None:
            of_parent.setdefault(stub.parent_id, []).append(stub.id)
    found: list[list[str]] = []
    seen: set[str] = set()
    for stub in stubs:  # parents come before their children
        if stub.id in wanted and stub.id not in seen:
            family = [stub.id]
            for run_id in family:
                family += of_parent.get(run_id, [])
            seen.update(family)
            found.append(family)
    return found


def check_ids(run_ids: Any) -> Sequence[str]:
    """The ids of a call.

    Raises:
        UserErrorException: they are no list of texts.
    """
    if not isinstance(run_ids, list) or not all(isinstance(run_id, str) for run_id in run_ids):
        raise UserErrorException("`runs` must be a list of run ids.")
    return run_ids


def _goes_on(run_id: str, active: str, status: str) -> str:
    which = f"The run {run_id!r}" if active == run_id else f"{active!r}, which belongs to the run {run_id!r},"
    return f"{which} is {status}. Cancel it (`windlass stop {active}`) or wait for its end, then delete it."


def _drop(tx: Any, deletion: Deletion, unused: bool, newest: int) -> None:
    if unused:
        tx.drop_snapshot(deletion.what, newest, time.time())
    tx.forget_deletions([deletion.number])


def _batches(wanted: Iterable[Sequence[str]]) -> Iterable[Sequence[Sequence[str]]]:
    """Families together up to about ``_AT_ONCE`` runs a write: other writes come in between."""
    batch: list[Sequence[str]] = []
    for family in wanted:
        batch.append(family)
        if sum(map(len, batch)) >= _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
