"""Bring the logs of a part to a server elsewhere, as they grow."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time

from windlass.errors import AzureMLException, ServiceUnavailable
from windlassd.agent.sending import Packed, Sender
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_TRIES = 5


class Logs:
    """Thread-safe.

    Args:
        sender: To the server.
        folder: The part's.
    """

    def __init__(self, sender: Sender, folder: RunFolder) -> None:
        self._sender = sender
        self._folder = folder
        self._held: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self.refused: dict[str, str] = {}
        """Why the server will not have a log, by name."""

    def ship(self) -> None:
        """Send what was appended; return when the server holds what there was, or refused it."""
        with self._lock:
            for name in self._folder.logs():
                try:
                    self._ship(name)
                    self.refused.pop(name, None)
                except ServiceUnavailable:  # given up: the part is over
                    return
                except AzureMLException as problem:
                    log.error("the server refuses the log %s: %s", name, problem)
                    self.refused[name] = problem.message

    def forget(self, name: str) -> None:
        """The server has something else there: send it from its beginning."""
        with self._lock:
            self._held[name] = (-1, 0)

    def _ship(self, name: str) -> None:
        try:
            fd = os.open(os.path.join(self._folder.files, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as problem:  # the script removes what it should not know
            log.info("the log %s cannot be read: %s", name, problem)
            return
        try:
            state = os.fstat(fd)
            if stat.S_ISREG(state.st_mode):
                self._ship_open(name, fd, state)
        finally:
            os.close(fd)

    def _ship_open(self, name: str, fd: int, state: os.stat_result) -> None:
        """Go on from what the server holds; anew when the file was truncated, or is another one by now."""
        known = self._held.get(name)
        anew = known is not None and (known[0] != state.st_ino or known[1] > state.st_size)
        held, tries = 0 if known is None or anew else known[1], 0
        while (held < state.st_size or anew) and tries < _TRIES:
            data = os.pread(fd, min(self._sender.line.piece_bytes, state.st_size - held), held)
            if not data and not anew:  # truncated this moment: seen at the next look
                break
            began = time.monotonic()
            body, encoding = self._sender.line.pack(data)
            packed = Packed(len(data), time.monotonic() - began) if encoding else None
            answer = self._sender.piece(name, held, body, packed, encoding=encoding, anew=1 if anew else None)
            now = int(answer["held"])
            tries = 0 if now == held + len(data) else tries + 1
            anew = now > state.st_size  # of another file that a killed agent shipped under the name
            held = 0 if anew else now
            self._held[name] = (state.st_ino, held)
