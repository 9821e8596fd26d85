"""Whether a process that is nobody's child of ours has ended, reaped or not."""

from __future__ import annotations

import os
import select


class Watch:
    def __init__(self, pid: int) -> None:
        try:
            self._fd: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = None

    def ended(self, timeout_s: float = 10.0) -> bool:
        """True once it is dead; waits for that."""
        if self._fd is None:
            return True
        found = bool(select.select([self._fd], [], [], timeout_s)[0])
        os.close(self._fd)
        return found
