"""What an agent has on a machine that is not its server's.

::

    <WINDLASS_HOME>/nodes/<workspace id>/
        blobs/                        contents of snapshots, shared by all parts
        data/                         data that was fetched for parts
        parts/<agent>/agent.lock      held as long as the agent lives
        parts/<agent>/not-kept        only where something of the part could not be brought to the server
        parts/<agent>/<workspace>/    what is the workspace's folder to the agent and its job

A part's folder goes with its agent. What a killed agent left, the next one on the node clears away: locks tell who
lives, and processes are found by the run's id in their environment.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from windlass import settings
from windlass._transport.places import private_dir, socket_path
from windlass.errors import UserErrorException
from windlass.specs.launch import Ticket
from windlassd.agent import leftovers
from windlassd.blobs.room import remove_tree
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
LOCK, NOT_KEPT = "agent.lock", "not-kept"
KEPT_FOR_S = 7 * 86400.0
"""How long what could not be brought to the server stays on the node."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z")
_LOOK_AGAIN_S = 0.1


class NodeFolder:
    """The folder of one workspace on this node, and in it that of one agent's part.

    Args:
        ticket: Names the workspace and the agent.

    Raises:
        UserErrorException: a name in the ticket could not be a folder's.
    """

    def __init__(self, ticket: Ticket) -> None:
        for what, name in (
            ("agent", ticket.agent), ("workspace", ticket.workspace), ("workspace_id", ticket.workspace_id)
        ):  # fmt: skip
            if not isinstance(name, str) or not _NAME.match(name):
                raise UserErrorException(f"The ticket's {what} {name!r} cannot be the name of a folder.")
        self.home = settings.home()
        self.root = os.path.join(self.home, "nodes", ticket.workspace_id)
        self.blobs = os.path.join(self.root, "blobs")
        self.data = os.path.join(self.root, "data")
        self.part = os.path.join(self.root, "parts", ticket.agent)
        self.workspace = os.path.join(self.part, ticket.workspace)
        self._lock: BinaryIO | None = None

    def enter(self, wanted: Callable[[], bool], patience_s: float) -> bool:
        """Make the folders and hold the part's for this process.

        Args:
            wanted: Asked while another agent of this name still lives; once it gives False, no longer waited for.
            patience_s: How long that is waited for.

        Returns:
            False when another agent holds it.

        Raises:
            OSError: such as a full disk.
        """
        for folder in (self.home, self.root, self.blobs, self.data):
            private_dir(folder)
        deadline = time.monotonic() + patience_s
        while not self._try_to_enter():
            if time.monotonic() > deadline or not wanted():
                return False
            time.sleep(_LOOK_AGAIN_S)
        private_dir(self.workspace)
        return True

    def note_not_kept(self) -> None:
        """Something lies here that the server does not have: keep it for a while."""
        os.close(os.open(os.path.join(self.part, NOT_KEPT), os.O_WRONLY | os.O_CREAT, 0o600))

    def leave(self) -> None:
        """Remove the part's folder, unless something in it is to be kept for a while."""
        if self._lock is None:
            return
        try:
            _remove(self.part)
        except OSError as problem:
            log.warning("%s cannot be removed: %s", self.part, problem)
        self._lock.close()
        self._lock = None

    def sweep(self) -> None:
        """End and remove what killed agents left on this node."""
        for part in self._others():
            try:
                lock = _locked(part)
            except OSError as problem:
                log.warning("%s cannot be looked at: %s", part, problem)
                continue
            if lock is None:
                continue
            with lock:
                try:
                    _clear_away(part)
                except OSError as problem:
                    log.warning("what a killed agent left in %s cannot be removed: %s", part, problem)

    def _others(self) -> Iterator[str]:
        parts = os.path.dirname(self.part)
        for name in _names(parts):
            place = os.path.join(parts, name)
            if place != self.part and os.path.isdir(place):
                yield place

    def _try_to_enter(self) -> bool:
        private_dir(self.part)
        lock = _locked(self.part)
        if lock is None:
            return False
        self._lock = lock
        return True


def _locked(part: str) -> BinaryIO | None:
    """The lock of a part's folder, held from now on; None when an agent that lives has it, or it is being removed."""
    path = os.path.join(part, LOCK)
    try:
        lock = open(path, "ab")  # noqa: SIM115  the caller holds it
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    lock.close()
    return None


def _clear_away(part: str) -> None:
    for workspace in (entry.path for entry in os.scandir(part) if entry.is_dir(follow_symlinks=False)):
        for run_id, spool in _spools(workspace):
            leftovers.kill_processes_of(run_id, spool)
        remove_socket(workspace)
    log.info("%s was left by an agent that was killed: it is cleared away", part)
    _remove(part)


def _spools(workspace: str) -> Iterator[tuple[str, str]]:
    """Run id and spool folder of each part in a workspace's folder: the processes of a part carry both."""
    runs = os.path.join(workspace, "runs")
    for run_id in _names(runs):
        yield run_id, RunFolder(workspace, run_id).spool
        for rank in _names(os.path.join(runs, run_id, "nodes")):
            if rank.isdigit():
                yield run_id, RunFolder(workspace, run_id, int(rank)).spool


def _names(folder: str) -> Sequence[str]:
    return os.listdir(folder) if os.path.isdir(folder) else ()


def _remove(part: str) -> None:
    marker = os.path.join(part, NOT_KEPT)
    try:
        if time.time() - os.stat(marker).st_mtime < KEPT_FOR_S:
            return
    except FileNotFoundError:
        pass
    for name in os.listdir(part):
        place = os.path.join(part, name)
        if name == LOCK:
            continue
        if os.path.isdir(place) and not os.path.islink(place):
            remove_tree(place)
        else:
            os.unlink(place)
    os.unlink(os.path.join(part, LOCK))  # last: until here nobody else enters
    os.rmdir(part)


def remove_socket(workspace: str) -> None:
    """Remove the socket by which jobs in this folder reached their agent; it may lie elsewhere (a short path)."""
    try:
        os.unlink(socket_path(workspace))
    except FileNotFoundError:
        pass
