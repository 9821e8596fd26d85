"""Points that clients logged into runs they are no part of, left on disk by a process that was killed."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable

from windlass._spools import frames_at, spool_files
from windlass.errors import AzureMLException
from windlassd.control.core import Core

log = logging.getLogger(__name__)


async def bring_in(core: Core, ingest: Callable[[str, str, int, bytes], Awaitable[int]]) -> None:
    """Add what lies in ``clients/<run id>`` and is not in the history, and remove the files of dead processes."""
    root = os.path.join(core.workspace_dir, "clients")
    for run_id in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        folder = os.path.join(root, run_id)
        for name, path in spool_files(folder):
            lived = _lives(name)  # asked before: what a process adds while this reads must not go with the file
            try:
                await _add(core, ingest, run_id, name, path)
            except OSError as problem:  # one unreadable file must not keep the server from starting
                log.error("what was logged into %s is left in %s: %s", run_id, path, problem)
                continue
            except AzureMLException as problem:
                if core.read(lambda tx, r=run_id: tx.find_run(r)) is not None:  # type: ignore[misc]
                    log.warning("what was logged into %s is left in %s: %s", run_id, path, problem)  # the disk is full
                    continue
            if not lived:
                os.unlink(path)
        if not spool_files(folder):
            _remove(folder)


async def _add(
    core: Core, ingest: Callable[[str, str, int, bytes], Awaitable[int]], run_id: str, name: str, path: str
) -> None:
    while True:
        start = core.read(lambda tx: tx.acked(run_id, name))
        data, whole = frames_at(path, start)
        if not whole or await ingest(run_id, name, start, data[:whole]) == start:
            return


def _lives(name: str) -> bool:
    """True when the process that writes the spool of this name (``<pid>-…``) may still be there."""
    pid = name.partition("-")[0]
    return pid.isdigit() and os.path.isdir(f"/proc/{pid}")


def _remove(folder: str) -> None:
    try:
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)
        os.rmdir(folder)
    except OSError as problem:
        log.warning("%s could not be cleared away: %s", folder, problem)
