"""Single-use codes that let the owner's browser in (DESIGN decision 1)."""

from __future__ import annotations

import secrets
import time

LIFETIME_S = 60.0


class LoginCodes:
    """Codes in memory only: a restart voids them."""

    def __init__(self) -> None:
        self._codes: dict[str, tuple[str, float]] = {}

    def issue(self, path: str) -> str:
        """A code that leads to ``path``, once, within a minute. A path elsewhere becomes ``/runs``."""
        now = time.monotonic()
        self._codes = {c: entry for c, entry in self._codes.items() if entry[1] > now}
        code = secrets.token_urlsafe(32)
        safe = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
        self._codes[code] = (path if safe else "/runs", now + LIFETIME_S)
        return code

    def redeem(self, code: str) -> str | None:
        """The path of a valid code, which is void from now on; else None."""
        path, until = self._codes.pop(code, ("", 0.0))
        return path if path and time.monotonic() < until else None
