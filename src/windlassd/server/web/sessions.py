"""Who is signed in: sessions of browsers, in memory, by the hash of a random token."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable

_BYTES = 32


class Sessions:
    """Open sessions; gone with the server. Safe to call from any thread.

    Args:
        lifetime_s: Seconds after which a session ends, used or not.
        most: Sessions kept at once; one more ends the oldest.
        clock: Monotonic seconds.
    """

    def __init__(
        self, *, lifetime_s: float = 7 * 86400.0, most: int = 256, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime_s = lifetime_s
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._ends: dict[bytes, float] = {}

    def open(self) -> str:
        """A new session's token, 256 random bits; it is kept nowhere but in the browser."""
        token = secrets.token_urlsafe(_BYTES)
        with self._lock:
            self._forget_ended()
            while len(self._ends) >= self._most:
                del self._ends[next(iter(self._ends))]
            self._ends[_digest(token)] = self._clock() + self.lifetime_s
        return token

    def holds(self, token: str | None) -> bool:
        """True when ``token`` is that of an open session."""
        if not token:
            return False
        with self._lock:
            ends = self._ends.get(_digest(token))
            return ends is not None and self._clock() < ends

    def close(self, token: str | None) -> None:
        """End the session of ``token``, if there is one."""
        with self._lock:
            self._ends.pop(_digest(token or ""), None)

    def _forget_ended(self) -> None:
        now = self._clock()
        for digest in [digest for digest, ends in self._ends.items() if ends <= now]:
            del self._ends[digest]


def cookie_name(host: str) -> str:
    """Name of the session's cookie for a Host header: cookies ignore ports, and each workspace has its own server."""
    port = host.rpartition(":")[2]
    return f"windlass_session_{port}" if port.isdigit() else "windlass_session"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
