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
from windlassd.agent.tail import Grew
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
_LONGEST_REST_S = 0.2
_NEWS = ("grew", "changed")
_MOST_HELD = 400
"""Spool files that are held open at once; a process may have 1,024 files."""


class Shipper:
    """Ships for all runs of an agent. Thread-safe.

    Args:
        client: To the workspace's server.
        agent: This agent's name.
    """

    def __init__(self, client: Client, agent: str) -> None:
        self._client = client
        self._base = f"/agent/v1/{agent}"
        self._wake = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._news: dict[tuple[str, str], dict[str, Any]] = {}
        self._sent = self._queued = 0
        self._dirty: set[str] = set()
        self._folders: dict[str, tuple[RunFolder, int]] = {}
        self._acked: dict[tuple[str, str], int] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        self._held: dict[tuple[str, str], int] = {}
        self._ended: set[str] = set()
        self._unread: set[tuple[str, str]] = set()
        self._draining = 0
        self._heartbeat_s = settings.steady("heartbeat_s")
        threading.Thread(target=self._ship_events, name="ship events", daemon=True).start()
        threading.Thread(target=self._ship_spools, name="ship spools", daemon=True).start()

    def open(self, run_id: str, attempt: int, folder: RunFolder) -> None:
        """Begin to ship for a run."""
        with self._wake:
            self._folders[run_id] = (folder, attempt)

    def close(self, run_id: str) -> None:
        """Forget a run whose end is acknowledged."""
        with self._wake:
            self._folders.pop(run_id, None)
            self._sizes.pop(run_id, None)
            self._dirty.discard(run_id)
            self._ended.discard(run_id)
            self._unread = {key for key in self._unread if key[0] != run_id}
            self._wake.notify_all()
            for key in [k for k in self._acked if k[0] == run_id]:
                del self._acked[key]

    def event(self, run_id: str, attempt: int, kind: str, **more: Any) -> int:
        """Queue an event and return its ticket for ``wait``. Events of an agent arrive in the order queued.

        News that only wakes those who watch takes the place of older such news: an outage must not pile it up.
        """
        event = {"run_id": run_id, "attempt": attempt, "kind": kind, "time": time.time(), **more}
        with self._wake:
            if kind in _NEWS and (waiting := self._news.get((run_id, kind))) is not None:
                waiting.update(event)
                return self._queued
            self._events.append(event)
            if kind in _NEWS:
                self._news[run_id, kind] = event
            self._queued += 1
            self._wake.notify_all()
            return self._queued

    def grew(self, run_id: str, kind: Grew) -> None:
        """A run's spool, logs or files changed (from the tail)."""
        with self._wake:
            if run_id not in self._folders:
                return
            if kind is Grew.SPOOL:
                self._dirty.add(run_id)
                self._wake.notify_all()
                return
            folder, attempt = self._folders[run_id]
        if kind is Grew.LOGS:
            self.logs_grew(run_id, attempt, folder)
        else:
            self.event(run_id, attempt, "changed")

    def logs_grew(self, run_id: str, attempt: int, folder: RunFolder) -> None:
        """Tell the sizes of a run's logs when they differ from what was told last."""
        try:
            sizes = {name: os.path.getsize(os.path.join(folder.files, name)) for name in folder.logs()}
        except OSError as problem:  # the script removes what it should not know
            log.warning("the logs of %s cannot be looked at: %s", run_id, problem)
            return
        with self._wake:
            if self._sizes.get(run_id) == sizes:
                return
            self._sizes[run_id] = sizes
        self.event(run_id, attempt, "grew", files=sizes)

    def drain(self, run_id: str, folder: RunFolder) -> float:
        """Return once all of the run's spools, which nobody writes to any more, is acknowledged, or cannot be read.

        Returns:
            Seconds that this took.
        """
        began = time.monotonic()
        ends = {(run_id, name): os.stat(path).st_size for name, path in self._files(run_id, folder)}
        with self._wake:
            self._ended.add(run_id)
            self._dirty.add(run_id)
            self._draining += 1
            self._wake.notify_all()
            while any(self._acked.get(key, 0) < end for key, end in ends.items() if not self._is_unread(key)):
                self._wake.wait()
            self._draining -= 1
        return time.monotonic() - began

    def missed(self, run_id: str, names: Iterable[str]) -> list[str]:
        """Sentences on spool files of these names that were removed before anything of them could be read."""
        with self._wake:
            folder = self._folders[run_id][0]
            gone = [name for name in names if (run_id, name) not in self._held]
        gone = [name for name in gone if not os.path.exists(os.path.join(folder.spool, name))]
        if not gone:
            return []
        return [f"{len(gone)} of its files of metric points were removed before they could be read: those are lost."]

    def unread(self, run_id: str) -> list[str]:
        """Sentences on spools of an ended run that ``drain`` gave up."""
        with self._wake:
            names = [name for run, name in self._unread if run == run_id]
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
                events, self._events = self._events, []
                self._news.clear()
                open_runs = [(run_id, attempt) for run_id, (_, attempt) in self._folders.items()]
            told = len(events)
            if time.monotonic() >= beat:
                beat = time.monotonic() + self._heartbeat_s
                events += [_heartbeat(run_id, attempt) for run_id, attempt in open_runs]
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
                folders = {run_id: self._folders[run_id][0] for run_id in dirty if run_id in self._folders}
            began = time.monotonic()
            for run_id, folder in folders.items():
                try:
                    self._persist(lambda r=run_id, f=folder: self._ship_spools_of(r, f))
                except Exception:  # the edge: whatever one run's script did there, the others' metrics go on
                    log.exception("the metrics of %s could not be shipped", run_id)
                    self._give_up(run_id)
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

    def _ship_spools_of(self, run_id: str, folder: RunFolder) -> None:
        for name, path in self._files(run_id, folder):
            while self._ship_batch(run_id, name, path):
                pass

    def _give_up(self, run_id: str, name: str = "") -> None:
        """A spool (all of them: "") of an ended run will not come in: its end must not wait for ever."""
        with self._wake:
            if run_id in self._ended:
                self._unread.add((run_id, name))
                self._wake.notify_all()

    def _is_unread(self, key: tuple[str, str]) -> bool:
        return key in self._unread or (key[0], "") in self._unread

    def _files(self, run_id: str, folder: RunFolder) -> list[tuple[str, str]]:
        """(name, path) of the run's spool files. Each is held open: what a script removes can still be read."""
        found = dict(spool_files(folder.spool))
        with self._wake:
            for name, path in found.items():
                if (run_id, name) not in self._held and len(self._held) < _MOST_HELD:
                    try:
                        self._held[run_id, name] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                    except OSError as problem:  # removed just now, or too many files are open
                        log.info("the spool %s of %s cannot be held open: %s", name, run_id, problem)
            found.update((key[1], f"/proc/self/fd/{fd}") for key, fd in self._held.items() if key[0] == run_id)
        return sorted(found.items())

    def _to_let_go(self) -> list[tuple[str, str]]:
        return [key for key in self._held if key[0] not in self._folders]

    def _ship_batch(self, run_id: str, name: str, path: str) -> bool:
        """Send the next batch of one spool; False when nothing more is to be sent."""
        key = (run_id, name)
        start = self._acked.get(key, 0)
        try:
            last = run_id in self._ended
            data, whole = frames_at(path, start, last)
        except FileNotFoundError:  # all of it was acknowledged, and the run has ended meanwhile
            return False
        except OSError as problem:  # one unreadable file must not end the shipping of all runs
            log.error("the spool %s of %s cannot be read: %s", name, run_id, problem)
            self._give_up(run_id, name)
            return False
        if not whole:
            return False
        acked = self._send_batch(run_id, name, start, data[:whole], last)
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


def _heartbeat(run_id: str, attempt: int) -> dict[str, Any]:
    return {"run_id": run_id, "attempt": attempt, "kind": "heartbeat", "time": time.time()}
