"""Faults below a process: killed, refused or recorded at any operation on files, or with another wall clock.

    shim = Shim(tmp_path, home)                        # watches what happens to files under ``home``
    child = subprocess.Popen(…, env={**os.environ, **shim.variables})
    shim.kill_at(17)                                   # may be set before or while it runs

The variables pass on to whatever the child starts (server, agent, jobs); the counter is common to all of them. The
library is compiled by gcc at first use; what it can do is told at the top of ``cut.c``.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from faults.shim.build import compiled

CREATE, TRUNCATE, WRITE, SYNC, RENAME, UNLINK, LINK, SYMLINK, MKDIR, RMDIR, CHMOD, SEND, OPEN, MARK = range(1, 15)
NAMES = (
    "?", "create", "truncate", "write", "sync", "rename", "unlink", "link", "symlink", "mkdir", "rmdir", "chmod",
    "send", "open", "mark",
)  # fmt: skip
WHOLE_DISK = 2
"""The ``offset`` of a SYNC that is a syncfs; fsync's is 0, fdatasync's 1."""
BEFORE, AFTER, TORN = 0, 1, 2

_FIELDS = (
    "count", "kill_at", "kill_when", "torn_bytes", "fail_from", "fail_to", "fail_errno", "fail_kinds", "clock_us",
    "record", "only_pid", "sends", "failed", "lock",
)  # fmt: skip
_ENTRY = struct.Struct("<IIIIQQ")


class Operation(NamedTuple):
    """One entry of a trace."""

    kind: int
    path: str
    second: str
    """A rename's or link's new name, a symbolic link's target."""
    pid: int
    offset: int
    """Place of a write, new size of a truncation, mode of what is created."""
    data: bytes

    def __str__(self) -> str:
        more = f" -> {self.second}" if self.second else ""
        return f"{NAMES[self.kind]} {self.path}{more} at {self.offset} ({len(self.data)} bytes)"


class Shim:
    """Controls what befalls the processes that get its ``variables``.

    Args:
        folder: Where control file and trace lie; not under a prefix.
        prefixes: Folders whose files are watched.
        record: Keep a trace from the start.
    """

    def __init__(self, folder: Path, *prefixes: str | Path, record: bool = False) -> None:
        folder = Path(tempfile.mkdtemp(prefix="shim-", dir=folder))
        self.trace = folder / "trace"
        control = folder / "control"
        control.write_bytes(bytes(8 * len(_FIELDS)))
        with open(control, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 0)
        self.variables = {
            "LD_PRELOAD": str(compiled("cut")),
            "CUT_CONTROL": str(control),
            "CUT_PREFIX": ":".join(os.path.abspath(prefix) for prefix in prefixes),
        }
        if record:
            self.variables["CUT_TRACE"] = str(self.trace)
            self._set("record", 1)

    @property
    def count(self) -> int:
        """Operations so far."""
        return self._get("count")

    @property
    def failed(self) -> int:
        """Operations that were made to fail so far."""
        return self._get("failed")

    def reset(self) -> None:
        """Count from 0 again, with no fault set."""
        for name in _FIELDS:
            if name not in ("record", "lock", "clock_us"):
                self._set(name, 0)

    def kill_at(self, number: int, when: int = BEFORE, *, torn_bytes: int = 0) -> None:
        """SIGKILL whichever process does the ``number``-th operation, from 1: before it, after it, or in a write."""
        self._set("kill_when", when)
        self._set("torn_bytes", torn_bytes)
        self._set("kill_at", number)

    def kill_next(self, when: int = BEFORE) -> None:
        """SIGKILL whichever process does the next operation."""
        self.kill_at(self.count + 1, when)

    def fail(self, code: int = errno.ENOSPC, *kinds: int, start: int = 1, end: int = 0) -> None:
        """Let operations ``start`` to ``end`` (exclusive; 0: all that follow) of these kinds (none: all) fail.

        For a read-only file system name ``errno.EROFS``: opening for writing then fails, too.
        """
        self._set("fail_errno", code)
        self._set("fail_kinds", sum(1 << kind for kind in kinds))
        self._set("fail_to", end)
        self._set("fail_from", start)

    def mend(self) -> None:
        """Let everything succeed again."""
        self._set("fail_from", 0)
        self._set("kill_at", 0)

    def only(self, pid: int) -> None:
        """Count, kill and fail in this process alone (0: in all)."""
        self._set("only_pid", pid)

    def count_sends(self) -> None:
        """Let sends on sockets be operations, too."""
        self._set("sends", 1)

    def set_clock(self, offset_s: float) -> None:
        """Let the wall clock of all processes be off by this much from now on."""
        self._set("clock_us", round(offset_s * 1_000_000))

    def operations(self) -> Iterator[Operation]:
        """The trace so far, in the order in which it happened."""
        data, place = self.trace.read_bytes(), 0
        while place < len(data):
            kind, path, second, pid, offset, size = _ENTRY.unpack_from(data, place)
            start = place + _ENTRY.size
            place = start + path + second + size
            if place > len(data):
                return  # killed while it was written
            names = os.fsdecode(data[start : start + path]), os.fsdecode(data[start + path : start + path + second])
            yield Operation(kind, *names, pid, offset, data[start + path + second : place])

    def _get(self, name: str) -> int:
        return int(struct.unpack_from("<q", self._map, 8 * _FIELDS.index(name))[0])

    def _set(self, name: str, value: int) -> None:
        struct.pack_into("<q", self._map, 8 * _FIELDS.index(name), value)
