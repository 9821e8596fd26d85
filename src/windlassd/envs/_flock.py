"""A lock between threads and between processes of one machine, which ends with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator

from windlassd.envs.base import EnvironmentStopped

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.005, 0.1


@contextlib.contextmanager
def held(path: str, stop: threading.Event, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file ``path``; ``waiting`` is called once if somebody else has it.

    Raises:
        EnvironmentStopped: ``stop`` was set while waiting.
    """
    fd = _open(path)
    try:
        wait_s = _FIRST_WAIT_S
        if not _taken(fd):
            waiting()
            while not _taken(fd):
                if stop.wait(wait_s):
                    raise EnvironmentStopped("The preparation of the environment was stopped while it waited.")
                wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def held_if_free(path: str) -> Iterator[bool]:
    """True, and the lock is held, when nobody else has it."""
    fd = _open(path)
    try:
        yield _taken(fd)
    finally:
        os.close(fd)


def is_held(path: str) -> bool:
    """True while somebody holds the lock file; the file is not made."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _taken(fd: int) -> bool:
    # One open file each, so threads of one process exclude each other too; the kernel frees it when the holder dies.
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
