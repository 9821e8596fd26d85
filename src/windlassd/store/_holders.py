"""Which programs hold a database locked, as far as the kernel tells."""

from __future__ import annotations

import os


def holders(path: str) -> str:
    """``sqlite3 (process 4711), …`` for the other processes that hold a write lock on the database; empty if unknown.

    SQLite locks by POSIX record locks, with a write-ahead log in its ``-shm``. They are listed in /proc/locks by inode,
    which may be another file's of that number elsewhere; so each must have the database open, unless that is hidden.
    """
    inodes = {_inode(path), _inode(path + "-shm")} - {None}
    found = {pid for pid, inode in _write_locks() if inode in inodes and pid not in (0, os.getpid())}
    return ", ".join(f"{_name(pid)} (process {pid})" for pid in sorted(found) if _has_open(pid, path))


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:  # its last user has just removed it
        return None


def _write_locks() -> list[tuple[int, int]]:
    """(pid, inode) of each POSIX write lock that is held on this machine."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    held = [w for w in lines if len(w) >= 6 and w[1] == "POSIX" and w[3] == "WRITE"]  # a waiter's second word is "->"
    return [(int(words[4]), int(words[5].rsplit(":", 1)[1])) for words in held]


def _has_open(pid: int, path: str) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
        return any(os.readlink(f"/proc/{pid}/fd/{number}").startswith(os.path.realpath(path)) for number in numbers)
    except OSError:  # another user's, or gone just now
        return os.path.isdir(f"/proc/{pid}")


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a program"
