"""Bring the files of parts to a server elsewhere: logs at once, outputs as they are finished, all of it at the end.

Used by agents on other machines only. Each part has two threads, and each thread a connection: logs never wait behind
outputs. Nothing is queued in memory: what is to be sent is what lies on the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from windlass._transport.client import Client
from windlass.errors import AzureMLException
from windlass.specs.launch import PartKey
from windlassd.agent.files_here import Brought
from windlassd.agent.kept_tree import Seen, kept
from windlassd.agent.sending import Sender
from windlassd.agent.ship_logs import Logs
from windlassd.agent.ship_outputs import Outputs
from windlassd.agent.tail import Grew
from windlassd.blobs.run_folder import RunFolder, sha256_of

log = logging.getLogger(__name__)
_LONGEST_REST_S = 0.02
_AFTER_A_FAULT_S = 5.0
_ROUNDS = 4
_TOLD_BYTES, _LINE_BYTES = 256 << 10, 120
_SHOWN = 3


class FileShipper:
    """Ships for all parts of an agent; a ``Files``.

    Args:
        client: To the server.
        agent: This agent's name.
    """

    def __init__(self, client: Client, agent: str) -> None:
        self._client = client
        self._agent = agent
        self._parts: dict[PartKey, _Part] = {}

    def open(self, key: PartKey, folder: RunFolder) -> None:
        """Begin to ship for a part; what a killed agent had sent is known."""
        self._parts[key] = _Part(Sender(self._client, self._agent, key), folder)

    def grew(self, key: PartKey, kind: Grew) -> None:
        """A part's logs or files changed (from the tail)."""
        if part := self._parts.get(key):
            part.grew(kind)

    def ended(self, key: PartKey) -> None:
        """The processes of a part have ended: call this before its folder is put in order, and what is kept moved."""
        self._parts[key].end()

    def bring_home(self, key: PartKey) -> Brought:
        """Return when the server has all that the folder of an ended part keeps, each file whole and checked."""
        return self._parts[key].bring_home()

    def make_durable(self, key: PartKey) -> bool:
        """True when what was brought is on the server's disk; False when it cannot be had to say so, or is too slow."""
        return self._parts[key].make_durable()

    def close(self, key: PartKey) -> None:
        """Forget a part whose end is acknowledged."""
        if part := self._parts.pop(key, None):
            part.close()


class _Part:
    def __init__(self, sender: Sender, folder: RunFolder) -> None:
        self._sender = sender
        self._folder = folder
        self._logs = Logs(sender, folder)
        self._outputs = Outputs(sender, folder)
        self._over = threading.Event()
        self._grew = {kind: threading.Event() for kind in (Grew.LOGS, Grew.FILES)}
        work: Mapping[Grew, Callable[[], float | None]] = {Grew.LOGS: self._ship_logs, Grew.FILES: self._ship_outputs}
        self._threads = [
            threading.Thread(target=self._follow, args=(kind, work[kind]), name=f"ship {kind.value}", daemon=True)
            for kind in self._grew
        ]
        for thread in self._threads:
            thread.start()
        for kind in self._grew:  # what there was before this agent
            self.grew(kind)

    def grew(self, kind: Grew) -> None:
        if kind in self._grew:
            self._grew[kind].set()

    def end(self) -> None:
        self._outputs.end()
        self.grew(Grew.LOGS)  # what was printed last need not wait for what else is brought home

    def bring_home(self) -> Brought:
        waited = self._sender.waited_s
        self._end_threads()
        checked = _Checked({}, {}, ())
        for _ in range(_ROUNDS):
            self._logs.ship()
            there, logs = kept(self._folder), set(self._folder.logs())
            self._outputs.bring({name: seen for name, seen in there.items() if name not in logs})
            checked = self._check(there, logs)
            if not checked.lacking:
                break
            log.warning("the server lacks %d files: %s, …", len(checked.lacking), checked.lacking[0])
            self._outputs.forget(checked.lacking)
            for name in logs.intersection(checked.lacking):
                self._logs.forget(name)
        return self._brought(checked, self._sender.waited_s - waited)

    def make_durable(self) -> bool:
        try:
            self._sender.sync()
        except AzureMLException as problem:
            log.warning("whether all is on the server's disk is not known: %s", problem)
            return False
        return True

    def close(self) -> None:
        self._sender.close()
        self._end_threads()
        self._outputs.close()

    def _follow(self, kind: Grew, work: Callable[[], float | None]) -> None:
        """Do the work whenever something grew, and when it asked for it."""
        again: float | None = None
        while True:
            self._grew[kind].wait(again)
            self._grew[kind].clear()
            if self._over.is_set():
                return
            try:
                again = work()
            except AzureMLException as problem:  # given up: the part is over
                log.info("%s are not shipped any more: %s", kind.value, problem)
                again = _AFTER_A_FAULT_S
            except Exception:  # the edge: whatever a script did there, the rest and the end are shipped
                log.exception("%s could not be shipped", kind.value)
                again = _AFTER_A_FAULT_S

    def _ship_logs(self) -> None:
        """Ship, then rest as long as that took: more is sent at once when much is printed."""
        began = time.monotonic()
        self._logs.ship()
        self._over.wait(min(time.monotonic() - began, _LONGEST_REST_S))

    def _ship_outputs(self) -> float | None:
        again = self._outputs.look()
        self._over.wait(self._outputs.rest_s)
        return again

    def _end_threads(self) -> None:
        """Return when nobody but the caller sends; a file that is on its way arrives first."""
        self._outputs.end()
        self._over.set()
        for kind in self._grew:
            self.grew(kind)
        for thread in self._threads:
            thread.join()

    def _check(self, there: Mapping[str, Seen], logs: set[str]) -> _Checked:
        """Have the server say what of this it does not have as it is here."""
        refused = self._refused()
        sums: dict[str, str] = {}
        lacking: list[str] = []
        for name, seen in there.items():
            if name in refused:
                continue
            known = sha256_of(seen.path) if name in logs else self._outputs.checksum(name)
            if known is None:
                lacking.append(name)
            else:
                sums[name] = known
        told = [{"path": name, "size": there[name].size, "sha256": known} for name, known in sums.items()]
        for some in _slices(told):
            try:
                lacking += self._sender.settled(some)
            except AzureMLException as problem:  # such as that the run was deleted
                log.error("the server will not check the files: %s", problem)
                lacking += [str(file["path"]) for file in some]
        return _Checked(there, sums, lacking)

    def _refused(self) -> Mapping[str, str]:
        return {**self._logs.refused, **self._outputs.refused}

    def _brought(self, checked: _Checked, waited_s: float) -> Brought:
        missing = dict.fromkeys(checked.lacking, "it could not be sent as it is") | dict(self._refused())
        files = [
            {"path": name, "size": seen.size, "sha256": checked.sums[name]}
            for name, seen in sorted(checked.there.items())
            if name not in missing
        ]
        return Brought(files, _notes({name: why for name, why in missing.items() if name in checked.there}), waited_s)


class _Checked(NamedTuple):
    there: Mapping[str, Seen]
    sums: Mapping[str, str]
    lacking: Sequence[str]


def _slices(told: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """What fits into a call each."""
    some: list[Mapping[str, Any]] = []
    size = 0
    for file in told:
        some.append(file)
        size += len(str(file["path"]).encode()) + _LINE_BYTES
        if size > _TOLD_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _notes(missing: Mapping[str, str]) -> list[str]:
    if not missing:
        return []
    shown = [f"{name} ({why.rstrip('.')})" for name, why in sorted(missing.items())[:_SHOWN]]
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return [f"Not brought from its node: {', '.join(shown)}{more}."]
