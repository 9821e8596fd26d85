"""The faults that are injected below a process happen, and only where they should. The quick ones of this folder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.shim import AFTER, BEFORE, MARK, TORN, WRITE, Shim

_WRITES = """
import os, sys
folder = sys.argv[1]
os.mkdir(folder + "/new")
fd = os.open(folder + "/new/file", os.O_WRONLY | os.O_CREAT, 0o600)
os.write(fd, b"0123456789")
os.fsync(fd)
os.rename(folder + "/new/file", folder + "/new/name")
open(folder + "/../outside", "w").close()
"""
_STEPS = ["mkdir", "create", "write", "sync", "rename"]


def _run(shim: Shim, text: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", text, *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **shim.variables}, capture_output=True, text=True, check=False)


def _described(path: Path, inside: Path) -> str:
    return f"{path.relative_to(inside)} {path.stat().st_size if path.is_file() else ''}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "watched"
    made.mkdir()
    return made


def test_a_process_dies_at_the_operation_named(folder: Path, tmp_path: Path) -> None:
    left = []
    for number in range(1, len(_STEPS) + 1):
        inside = folder / str(number)
        inside.mkdir()
        shim = Shim(tmp_path, inside)
        shim.kill_at(number, AFTER)
        assert _run(shim, _WRITES, inside).returncode == -signal.SIGKILL
        left.append(
            sorted(f"{p.relative_to(inside)} {p.stat().st_size if p.is_file() else ''}" for p in inside.rglob("*"))
        )
    assert left == [["new "], ["new ", "new/file 0"], *2 * [["new ", "new/file 10"]], ["new ", "new/name 10"]]


def test_before_and_in_the_middle(folder: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, folder)
    shim.kill_at(1, BEFORE)
    assert _run(shim, _WRITES, folder).returncode == -signal.SIGKILL
    assert list(folder.iterdir()) == []
    shim.reset()
    shim.kill_at(3, TORN, torn_bytes=4)
    assert _run(shim, _WRITES, folder).returncode == -signal.SIGKILL
    assert (folder / "new" / "file").read_bytes() == b"0123"


def test_operations_are_refused_as_long_as_asked(folder: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, folder)
    shim.fail(errno.ENOSPC, WRITE)
    ended = _run(shim, _WRITES, folder)
    assert "No space left on device" in ended.stderr and shim.failed == 1
    shim.reset()
    shim.fail(errno.EROFS)
    assert "Read-only file system" in _run(shim, "import sys; open(sys.argv[1], 'r+')", folder / "new" / "file").stderr
    shim.mend()
    assert _run(shim, "import sys; open(sys.argv[1], 'r+')", folder / "new" / "file").returncode == 0


def test_a_trace_tells_every_operation(folder: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, folder, record=True)
    marked = _WRITES + "import ctypes; ctypes.CDLL(None).cut_mark(b'done')"
    assert _run(shim, marked, folder).returncode == 0
    *told, mark = shim.operations()
    assert [str(step).split()[0] for step in told] == _STEPS and shim.count == len(_STEPS)
    assert told[2].data == b"0123456789" and told[2].path == str(folder / "new" / "file")
    assert told[4].second == str(folder / "new" / "name")
    assert (mark.kind, mark.path) == (MARK, "done")


def test_sqlite_and_copies_are_seen(folder: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, folder, record=True)
    text = """
import shutil, sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/a.db")
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE t (x)")
db.commit()
shutil.copyfile(sys.argv[1] + "/a.db-wal", sys.argv[1] + "/copy")
"""
    assert _run(shim, text, folder).returncode == 0
    told = {(os.path.basename(step.path), str(step).split()[0]) for step in shim.operations()}
    assert {("a.db-wal", "create"), ("a.db-wal", "write"), ("a.db-wal", "sync"), ("copy", "write")} <= told


def test_the_wall_clock_is_set_back_and_the_monotonic_one_is_not(tmp_path: Path) -> None:
    shim = Shim(tmp_path, tmp_path / "nothing")
    text = "import time, datetime; print(time.time(), datetime.datetime.now().timestamp(), time.monotonic())"
    before = [float(word) for word in _run(shim, text).stdout.split()]
    shim.set_clock(-3600)
    after = [float(word) for word in _run(shim, text).stdout.split()]
    assert 0 < after[0] - before[0] + 3600 < 600 and 0 < after[1] - before[1] + 3600 < 600
    assert 0 < after[2] - before[2] < 600
