"""Bring to the server what runs produce: events in order, and spools with acknowledged offsets.

Two threads, a connection each: events, which somebody may be watching, never wait behind the bulk of the spools. What
was not acknowledged is sent again, after starting the server where none runs; the server counts everything once
(offsets, idempotent events). Nothing here is lost when the agent dies either: its successor finds spools and launch
files on disk.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

from windlass import settings
from windlass._spools import frames_at, spool_files
from windlass._transport.client import Client
from windlass.errors import AzureMLException, ServiceUnavailable
from windlass.specs.launch import PartKey
from windlassd.agent.tail import Grew
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
_LONGEST_REST_S = 0.2
_NEWS = ("grew", "changed")
_MOST_HELD = 400
"""Spool files that are held open at once; a process may have 1,024 files."""
_Spool = tuple[PartKey, str]
"""A spool's part and name."""


class Shipper:
    """Ships for all parts of runs of an agent. Thread-safe.

    Args:
        client: To the workspace's server.
        agent: This agent's name.
    """

    def __init__(self, client: Client, agent: str) -> None:
        self._client = client
        self._base = f"/agent/v1/{agent}"
        self._wake = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._news: dict[tuple[PartKey, str], dict[str, Any]] = {}
        self._sent = self._queued = 0
        self._dirty: set[PartKey] = set()
        self._folders: dict[PartKey, RunFolder] = {}
        self._acked: dict[_Spool, int] = {}
        self._sizes: dict[PartKey, dict[str, int]] = {}
        self._held: dict[_Spool, int] = {}
        self._ended: set[PartKey] = set()
        self._unread: set[_Spool] = set()
        self._draining = 0
        self._heartbeat_s: float = settings.steady("heartbeat_s")
        self._at_most_s = float("inf")
        threading.Thread(target=self._ship_events, name="ship events", daemon=True).start()
        threading.Thread(target=self._ship_spools, name="ship spools", daemon=True).start()

    def beat_every(self, seconds: float) -> None:
        """Let so much time pass between two heartbeats, whatever this machine's settings say."""
        with self._wake:
            self._heartbeat_s = min(seconds, self._at_most_s)
            self._wake.notify_all()

    def beat_within(self, seconds: float) -> None:
        """Let no more than so much time pass between two heartbeats from now on."""
        with self._wake:
            self._at_most_s = seconds
            self._heartbeat_s = min(self._heartbeat_s, seconds)
            self._wake.notify_all()

    def open(self, part: PartKey, folder: RunFolder) -> None:
        """Begin to ship for a part."""
        with self._wake:
            self._folders[part] = folder

    def close(self, part: PartKey) -> None:
        """Forget a part whose end is acknowledged."""
        with self._wake:
            self._folders.pop(part, None)
            self._sizes.pop(part, None)
            self._dirty.discard(part)
            self._ended.discard(part)
            self._unread = {key for key in self._unread if key[0] != part}
            self._wake.notify_all()
            for key in [k for k in self._acked if k[0] == part]:
                del self._acked[key]

    def event(self, part: PartKey, kind: str, **more: Any) -> int:
        """Queue an event and return its ticket for ``wait``. Events of an agent arrive in the order queued.

        News that only wakes those who watch takes the place of older such news: an outage must not pile it up.
        """
        event = _event(part, kind, **more)
        with self._wake:
            if kind in _NEWS and (waiting := self._news.get((part, kind))) is not None:
                waiting.update(event)
                return self._queued
            self._events.append(event)
            if kind in _NEWS:
                self._news[part, kind] = event
            self._queued += 1
            self._wake.notify_all()
            return self._queued

    def grew(self, part: PartKey, kind: Grew) -> None:
        """A part's spool, logs or files changed (from the tail)."""
        with self._wake:
            if part not in self._folders:
                return
            if kind is Grew.SPOOL:
                self._dirty.add(part)
                self._wake.notify_all()
                return
            folder = self._folders[part]
        if kind is Grew.LOGS:
            self.logs_grew(part, folder)
        else:
            self.event(part, "changed")

    def logs_grew(self, part: PartKey, folder: RunFolder) -> None:
        """Tell the sizes of a part's logs when they differ from what was told last."""
        try:
            sizes = {name: os.path.getsize(os.path.join(folder.files, name)) for name in folder.logs()}
        except OSError as problem:  # the script removes what it should not know
            log.warning("the logs of %s cannot be looked at: %s", part[0], problem)
            return
        with self._wake:
            if self._sizes.get(part) == sizes:
                return
            self._sizes[part] = sizes
        self.event(part, "grew", files=sizes)

    def drain(self, part: PartKey, folder: RunFolder) -> float:
        """Return once all of the part's spools, which nobody writes to any more, is acknowledged, or cannot be read.

        Returns:
            Seconds that this took.
        """
        began = time.monotonic()
        ends = {(part, name): os.stat(path).st_size for name, path in self._files(part, folder)}
        with self._wake:
            self._ended.add(part)
            self._dirty.add(part)
            self._draining += 1
            self._wake.notify_all()
            while any(self._acked.get(key, 0) < end for key, end in ends.items() if not self._is_unread(key)):
                self._wake.wait()
            self._draining -= 1
        return time.monotonic() - began

    def missed(self, part: PartKey, names: Iterable[str]) -> list[str]:
        """Sentences on spool files of these names that were removed before anything of them could be read."""
        with self._wake:
            folder = self._folders[part]
            gone = [name for name in names if (part, name) not in self._held]
        gone = [name for name in gone if not os.path.exists(os.path.join(folder.spool, name))]
        if not gone:
            return []
        return [f"{len(gone)} of its files of metric points were removed before they could be read: those are lost."]

    def unread(self, part: PartKey) -> list[str]:
        """Sentences on spools of an ended part that ``drain`` gave up."""
        with self._wake:
            names = [name for owner, name in self._unread if owner == part]
        if not names:
            return []
        which = "Its metrics" if "" in names else f"{len(names)} of its files of metric points"
        return [f"{which} could not all be read (the agent's log says why): what was not shipped by then is lost."]

    def wait(self, ticket: int) -> None:
        """Return once the event with this ticket is acknowledged."""
        with self._wake:
            while self._sent < ticket:
                self._wake.wait()

    def _ship_events(self) -> None:
        beat = time.monotonic() + self._heartbeat_s
        while True:
            with self._wake:
                while not self._events and time.monotonic() < beat:
                    self._wake.wait(max(0.0, beat - time.monotonic()))
                    beat = min(beat, time.monotonic() + self._heartbeat_s)
                events, self._events = self._events, []
                self._news.clear()
                open_parts = list(self._folders)
            told = len(events)
            if time.monotonic() >= beat:
                beat = time.monotonic() + self._heartbeat_s
                events += [_event(part, "heartbeat") for part in open_parts]
            if events:
                self._send_events(events)
            with self._wake:
                self._sent += told
                self._wake.notify_all()

    def _ship_spools(self) -> None:
        """Ship in rounds. After each it rests as long as that took, so that bulk leaves half of the time to others."""
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._dirty or self._to_let_go())
                for key in self._to_let_go():  # by this thread alone: none may read from a number closed meanwhile
                    os.close(self._held.pop(key))
                dirty, self._dirty = self._dirty, set()
                folders = {part: self._folders[part] for part in dirty if part in self._folders}
            began = time.monotonic()
            for part, folder in folders.items():
                try:
                    self._persist(lambda p=part, f=folder: self._ship_spools_of(p, f))
                except Exception:  # the edge: whatever one run's script did there, the others' metrics go on
                    log.exception("the metrics of %s could not be shipped", part[0])
                    self._give_up(part)
            with self._wake:
                self._wake.wait_for(lambda: self._draining, min(time.monotonic() - began, _LONGEST_REST_S))

    def _send_events(self, events: list[dict[str, Any]]) -> None:
        """Send a batch; if the server refuses it, each alone, so that one bad event does not take others along."""
        refused = self._persist(lambda: self._client.post(f"{self._base}/events", {"events": events}))
        if refused and len(events) > 1:
            for event in events:
                self._send_events([event])

    def _persist(self, send: Any) -> bool:
        """Call ``send`` until the server took it; True when it answered and refused: repeating would not help."""
        tries = 0
        while True:
            try:
                send()
                return False
            except ServiceUnavailable as problem:
                log.warning("the server did not take a batch, trying again: %s", problem)
            except AzureMLException as problem:
                log.error("the server refused a batch: %s", problem)
                return True
            time.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
            tries += 1

    def _ship_spools_of(self, part: PartKey, folder: RunFolder) -> None:
        for name, path in self._files(part, folder):
            while self._ship_batch(part, name, path):
                pass

    def _give_up(self, part: PartKey, name: str = "") -> None:
        """A spool (all of them: "") of an ended part will not come in: its end must not wait for ever."""
        with self._wake:
            if part in self._ended:
                self._unread.add((part, name))
                self._wake.notify_all()

    def _is_unread(self, key: _Spool) -> bool:
        return key in self._unread or (key[0], "") in self._unread

    def _files(self, part: PartKey, folder: RunFolder) -> list[tuple[str, str]]:
        """(name, path) of the part's spool files. Each is held open: what a script removes can still be read."""
        found = dict(spool_files(folder.spool))
        with self._wake:
            for name, path in found.items():
                if (part, name) not in self._held and len(self._held) < _MOST_HELD:
                    try:
                        self._held[part, name] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                    except OSError as problem:  # removed just now, or too many files are open
                        log.info("the spool %s of %s cannot be held open: %s", name, part[0], problem)
            found.update((key[1], f"/proc/self/fd/{fd}") for key, fd in self._held.items() if key[0] == part)
        return sorted(found.items())

    def _to_let_go(self) -> list[_Spool]:
        return [key for key in self._held if key[0] not in self._folders]

    def _ship_batch(self, part: PartKey, name: str, path: str) -> bool:
        """Send the next batch of one spool; False when nothing more is to be sent."""
        key = (part, name)
        start = self._acked.get(key, 0)
        try:
            last = part in self._ended
            data, whole = frames_at(path, start, last)
        except FileNotFoundError:  # all of it was acknowledged, and the run has ended meanwhile
            return False
        except OSError as problem:  # one unreadable file must not end the shipping of all runs
            log.error("the spool %s of %s cannot be read: %s", name, part[0], problem)
            self._give_up(part, name)
            return False
        if not whole:
            return False
        acked = self._send_batch(part[0], name, start, data[:whole], last)
        with self._wake:
            self._acked[key] = acked
            self._wake.notify_all()
        return acked != start

    def _send_batch(self, run_id: str, name: str, start: int, data: bytes, last: bool) -> int:
        query = {"run_id": run_id, "spool": name, "offset": start, **({"last": 1} if last else {})}
        kind = "application/octet-stream"
        try:
            answer = self._client.call("POST", f"{self._base}/spool", query=query, body=data, content_type=kind)
        except ServiceUnavailable:
            raise
        except AzureMLException as problem:  # such as a run that was deleted: waiting for it would never end
            log.error("the server refused %d bytes of %s of %s: %s", len(data), name, run_id, problem)
            return start + len(data)
        return int(answer["acked"])


def _event(part: PartKey, kind: str, **more: Any) -> dict[str, Any]:
    run_id, attempt, rank = part
    return {"run_id": run_id, "attempt": attempt, "rank": rank, "kind": kind, "time": time.time(), **more}
