"""The end of a workspace: its server stops, its folder goes or is put aside."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Iterator

from windlass import settings
from windlass._transport import autostart, places
from windlass.errors import AzureMLException, ServiceUnavailable, UserErrorException

if TYPE_CHECKING:
    from windlass._transport.client import Client

_STOP_S = 30.0
_POLL_S = 0.02


def end(client: "Client", workspace_dir: str, *, remove: bool) -> None:
    """Stop the server of the workspace and remove its folder, or move it to ``deleted/`` of the home.

    Raises:
        UserErrorException: runs have not ended, or there is no such workspace.
    """
    if not os.path.isdir(workspace_dir):
        raise UserErrorException("There is no workspace in %s; it may have been deleted already." % workspace_dir)
    with stopped(client, workspace_dir):
        # first a name that nobody opens: a client that comes now makes a new workspace, instead of opening half of this
        aside = place_aside(workspace_dir)
        os.rename(workspace_dir, aside)
    if remove:
        _remove(aside)
    else:
        sys.stderr.write("windlass: the deleted workspace's data lies in %s\n" % aside)


@contextlib.contextmanager
def stopped(client: "Client", workspace_dir: str) -> "Iterator[None]":
    """Stop the server of the workspace; none can start until the end of the block: its lock is held.

    Raises:
        UserErrorException: runs have not ended.
    """
    deadline = time.monotonic() + _STOP_S
    place = os.path.join(places.server_dir(workspace_dir), "server.lock")
    lock, folder = os.open(place, os.O_RDWR | os.O_CREAT, 0o600), os.open(workspace_dir, os.O_RDONLY)
    try:
        while True:
            try:
                client.post("/v1/server/stop", {"force": False})
            except AzureMLException:
                if autostart.is_running(workspace_dir):
                    raise  # else none can start there, such as on a damaged database: nothing is to be stopped
            client.close()
            if _locked(lock, workspace_dir, deadline) and _locked(folder, workspace_dir, deadline):
                break
        yield
    finally:
        os.close(folder)
        os.close(lock)


def place_aside(workspace_dir: str) -> str:
    """A free path in ``deleted/`` of the home, for the workspace."""
    folder = os.path.join(settings.home(), "deleted")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, "%s-%d" % (os.path.basename(workspace_dir), time.time_ns()))


def _locked(descriptor: int, workspace_dir: str, deadline: float) -> bool:
    """True once this lock is ours: a server has it to the last moment. False when another server came instead.

    Raises:
        ServiceUnavailable: it is not to be had.
    """
    import fcntl  # servers of this machine are on systems that have it

    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as e:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    "The server of %s did not stop within %g s." % (workspace_dir, _STOP_S), "Try again."
                ) from e
            if autostart.is_running(workspace_dir):
                return False
        time.sleep(_POLL_S)


def _remove(root: str) -> None:
    for folder, below, _ in os.walk(root):
        for name in below:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o700)  # scripts leave folders that nobody may enter
    for last in (False, False, False, True):
        try:
            shutil.rmtree(root)
            return
        except OSError:  # the agent wrote its last line meanwhile
            if last:
                raise
            time.sleep(_POLL_S)
