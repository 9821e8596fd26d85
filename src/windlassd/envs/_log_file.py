"""The log of a piece of work, for others that wait for it, in this process or another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from windlassd.envs.base import Log


@contextlib.contextmanager
def written(path: str, log: Log) -> Iterator[Log]:
    """Takes lines for ``log`` and for whoever follows the file ``path``, which is there until the ``with`` ends.

    The caller holds the lock that others wait for. A disk that takes no lines keeps no work from being done.
    """
    with contextlib.suppress(OSError):
        os.unlink(path)  # of one that was killed; who reads it still has it open
    with contextlib.ExitStack() as stack:
        out = None
        with contextlib.suppress(OSError):
            out = stack.enter_context(open(path, "xb", buffering=0, opener=_private))

        def say(line: str) -> None:
            log(line)
            if out:
                with contextlib.suppress(OSError):
                    out.write(line.encode("utf-8", "replace").replace(b"\n", b"\r") + b"\n")

        try:
            yield say
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


class Follower:
    """Hands on to ``log`` what is written there; the first call says why, as ``first``."""

    def __init__(self, path: str, log: Log, first: str) -> None:
        self._path = path
        self._log = log
        self._first: str | None = first
        self._file: BinaryIO | None = None
        self._rest = b""

    def look(self) -> None:
        """Hand on what is new."""
        if self._first is not None:
            self._log(self._first)
            self._first = None
        if self._file is None:
            with contextlib.suppress(OSError):
                self._file = open(self._path, "rb")  # noqa: SIM115 - it stays readable when its name is gone
        if self._file is None:
            return
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            self._log(line.replace(b"\r", b"\n").decode("utf-8", "replace"))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
