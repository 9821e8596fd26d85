"""A lock between threads and between processes of one machine, which ends with its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator

from windlassd.envs.base import EnvironmentStopped

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.005, 0.1


@contextlib.contextmanager
def held(path: str, stop: threading.Event, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file ``path``; while somebody else has it, ``waiting`` is called now and then, and once at the end.

    Raises:
        EnvironmentStopped: ``stop`` was set while waiting.
    """
    fd = _open(path)
    try:
        wait_s = _FIRST_WAIT_S
        # The first wait is not told: whoever only looks at an environment shares its lock for some microseconds.
        if not _taken(fd) and (stop.wait(wait_s) or not _taken(fd)):
            waiting()
            while not _taken(fd):
                if stop.wait(wait_s):
                    raise EnvironmentStopped("The preparation of the environment was stopped while it waited.")
                wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)
                waiting()
            waiting()
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def shared_if_free(path: str) -> Iterator[bool]:
    """True when nobody holds the lock file, nor can before the ``with`` ends; sharers do not mind each other."""
    fd = _open(path)
    try:
        yield _taken(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


@contextlib.contextmanager
def held_if_free(path: str, patience_s: float = 0.0) -> Iterator[bool]:
    """True, and the lock is held, when nobody else has it, or not for longer than ``patience_s``."""
    fd = _open(path)
    try:
        deadline = time.monotonic() + patience_s
        while not (mine := _taken(fd)) and time.monotonic() < deadline:
            time.sleep(_FIRST_WAIT_S)
        yield mine
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
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        if problem.errno != errno.EROFS or not os.path.exists(path):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # one that is there already can be locked all the same


def _taken(fd: int, how: int = fcntl.LOCK_EX) -> bool:
    # One open file each, so threads of one process exclude each other too; the kernel frees it when the holder dies.
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
