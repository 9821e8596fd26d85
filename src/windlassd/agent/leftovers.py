"""What an agent that was killed left behind: processes of its runs, and runs that nobody finished."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence

from windlass import settings
from windlass.specs.launch import LaunchSpec
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_WAIT_S = 10.0


def kill_processes_of(run_id: str) -> None:
    """Kill every process that carries the run's id in its environment, and wait until none is left."""
    deadline = time.monotonic() + _WAIT_S
    while pids := processes_of(run_id):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            log.error("processes %s of %s do not end", pids, run_id)
            return
        time.sleep(0.02)


def processes_of(run_id: str) -> Sequence[int]:
    """Pids of the live processes that carry the run's id in their environment."""
    mark = f"{settings.RUN_ID_VARIABLE}={run_id}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as f:
                if mark in f.read().split(b"\0") and not _is_zombie(name):
                    found.append(int(name))
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def _is_zombie(pid: str) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rpartition(b")")[2].split()[0] == b"Z"


def read_launch(folder: RunFolder) -> LaunchSpec | None:
    """The launch that an agent began in this folder, or None when it did not come to that."""
    data = _read(os.path.join(folder.agent, "launch.json"))
    return LaunchSpec.from_wire(data) if data else None


def read_exit(folder: RunFolder, timeout_s: float = 5.0) -> Mapping[str, object] | None:
    """What the keeper left in ``exit.json``; it may be writing it right now, so wait for it a little."""
    deadline = time.monotonic() + timeout_s
    while True:
        report = _read(os.path.join(folder.agent, "exit.json"))
        if report is not None or time.monotonic() > deadline:
            return report
        time.sleep(0.02)


def _read(path: str) -> Mapping[str, object] | None:
    try:
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
