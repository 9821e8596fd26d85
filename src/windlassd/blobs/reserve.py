"""Room on the disk that is set aside so that something can still be deleted once the disk is full.

Forgetting a record takes room itself: the database notes every change in its log first. Without a reserve a disk that
is full to the last byte could not be emptied with Windlass.
"""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)
RESERVE_BYTES = 4 << 20
"""The log of a deletion: its pages, each once."""


class Reserve:
    """The file ``server/reserve`` of a workspace, which nothing ever reads. Only deletions may give it up."""

    def __init__(self, workspace_dir: str) -> None:
        self._path = os.path.join(workspace_dir, "server", "reserve")

    def make(self) -> bool:
        """Set the room aside, unless it is; False when there is none, which is no error: there will be later."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_blocks * 512 < RESERVE_BYTES:
                    os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError as problem:
            log.info("no room can be set aside in %s: %s", self._path, problem)
            self.give_up()
            return False
        return True

    def give_up(self) -> bool:
        """Give the room back to the disk; False when none was set aside."""
        try:
            freed = os.stat(self._path).st_blocks > 0
            os.unlink(self._path)
        except OSError:  # not there, or the disk is read-only: then nothing can be deleted anyway
            return False
        return freed
