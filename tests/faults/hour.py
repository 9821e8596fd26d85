"""An hour in a few seconds, and a gate that keeps servers from starting: what an outage is made of.

``FastClock`` is the time of the processes that get its ``variables``: ``clock.pass_by(3600)`` lets an hour go by for
them in six seconds of this process's. While a ``Gate`` is shut, every attempt to start a server fails.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import struct
import sys
import time
from pathlib import Path

from inotify_simple import INotify, flags

from faults.evidence import Witnessed
from faults.shim.build import compiled
from windlassd.testing.harness import Workspace

SPEED = 600.0

_PACE = struct.Struct("<qqdq")
_SLOTS = 64
_SECOND = 1_000_000_000


class FastClock:
    """The time of the processes that get its ``variables``; this process keeps the real one."""

    def __init__(self, folder: Path) -> None:
        control = folder / "hour.control"
        control.write_bytes(bytes(8 + _SLOTS * _PACE.size))
        with open(control, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 0)
        self._pace = (time.monotonic_ns(), time.monotonic_ns(), 1.0, 0)
        self._slot = 0
        self._write()
        self.variables = {"LD_PRELOAD": str(compiled("hour")), "HOUR_CONTROL": str(control)}

    def pass_by(self, seconds: float) -> None:
        """Return when so much time has passed for those processes."""
        self.go(SPEED)
        time.sleep(seconds / SPEED)
        self.go(1.0)

    def go(self, speed: float) -> None:
        """From now on time goes so fast."""
        now = time.monotonic_ns()
        self._pace = (now, self._shown(now), speed, self._pace[3])
        self._write()

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back, as an administrator would."""
        now = time.monotonic_ns()
        self._pace = (now, self._shown(now), self._pace[2], self._pace[3] - round(seconds * _SECOND))
        self._write()

    def time(self) -> float:
        """What ``time.time()`` is in those processes."""
        now = time.monotonic_ns()
        return (time.time_ns() + self._shown(now) - now + self._pace[3]) / _SECOND

    def _shown(self, now: int) -> int:
        real, shown, speed, _ = self._pace
        return shown + int((now - real) * speed)

    def _write(self) -> None:
        self._slot += 1
        _PACE.pack_into(self._map, 8 + self._slot % _SLOTS * _PACE.size, *self._pace)
        struct.pack_into("<q", self._map, 0, self._slot)


class Gate:
    """While it is shut, no server of the home starts; it says what a server says that a full disk keeps from starting.

    Args:
        home: The home.
        folder: Where its files lie.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        self._shut = folder / "shut"
        self.tried = folder / "tried"
        python = folder / "server-python"
        python.write_text(
            f"#!/bin/sh\nif [ -e {self._shut} ]; then echo x >> {self.tried}; cat {self._shut}; exit 1; fi\n"
            f'exec {sys.executable} "$@"\n'
        )
        python.chmod(0o755)
        (home / "interpreter.json").write_text(json.dumps({"python": str(python)}))

    def shut(self, word: str = "windlassd: The disk is full.") -> None:
        """Let nothing through; who tries is told this."""
        self._shut.write_text(word + "\n")

    def open(self) -> None:
        """Let servers start again."""
        self._shut.unlink()

    def tries(self) -> int:
        """How often somebody has tried."""
        return len(self.tried.read_text().splitlines()) if self.tried.exists() else 0


class HeldRun(Witnessed):
    """An interactive run, held against its diary; it has no driver log."""

    def check_lines(self, channel: int = 1) -> None:
        """What it prints is its own terminal's."""
        assert not self.diary.begun(channel)


def appears(path: str, timeout_s: float = 60.0) -> None:
    """Return once ``path`` exists, woken by its folder."""
    with INotify() as watcher:
        watcher.add_watch(os.path.dirname(path), flags.CREATE | flags.MOVED_TO)
        while not os.path.lexists(path):
            assert watcher.read(timeout=int(timeout_s * 1000)), f"{path} did not appear"


def gone(*pids: int, timeout_s: float = 60.0) -> None:
    """Return once these processes have ended, whoever reaps them."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ready = select.select([fd], [], [], timeout_s)[0]
        os.close(fd)
        assert ready, f"process {pid} does not end"


def stopped(workspace: Workspace) -> None:
    """Stop server and agent in good order, and return once both have ended."""
    processes = [workspace.server_pid(), workspace.agent_pid()]
    workspace.client.post("/v1/server/stop", {})
    gone(*processes)
