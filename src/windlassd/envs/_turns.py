"""How many environments are resolved or built at once by this process."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

from windlass import settings
from windlassd.envs.base import EnvironmentStopped, Log

_LOOK_S = 0.1  # how soon a stop, or a changed setting, is seen


class Turns:
    """First come, first served; the setting ``environment_builds`` says how many at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._working = 0

    @contextlib.contextmanager
    def turn(self, log: Log, stop: threading.Event) -> Iterator[None]:
        """Wait for a turn, and have it until the ``with`` ends.

        Raises:
            EnvironmentStopped: ``stop`` was set while waiting.
        """
        self._wait(log, stop)
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _wait(self, log: Log, stop: threading.Event) -> None:
        me = object()
        with self._changed:
            self._line.append(me)
            try:
                if not self._is_next(me):
                    log(f"Waiting for its turn: {self._working} others are being made at once (environment_builds).")
                while not self._is_next(me):
                    if stop.is_set():
                        raise EnvironmentStopped("The preparation of the environment was stopped while it waited.")
                    self._changed.wait(_LOOK_S)
                self._working += 1
            finally:
                self._line.remove(me)
                self._changed.notify_all()

    def _is_next(self, me: object) -> bool:
        limit: int = settings.steady("environment_builds")
        return self._line[0] is me and self._working < limit
