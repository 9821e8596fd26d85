"""Who changed: what the streams and loops of one server process wait on. Nothing here is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Subscription:
    """What changed since the last look. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self.closed = False
        """True when the server is ending: nothing more will come."""
        self._changed: set[tuple[str, str]] = set()
        self._event = asyncio.Event()

    def add(self, run_id: str, kind: str) -> None:
        """Note a change."""
        self._changed.add((run_id, kind))
        self._event.set()

    def close(self) -> None:
        """Wake whoever waits, for the last time."""
        self.closed = True
        self._event.set()

    async def wait(self, timeout_s: float) -> set[tuple[str, str]]:
        """``(run id, kind)`` of what changed, at once when something did already; empty after the time-out."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return set()
        self._event.clear()
        changed, self._changed = self._changed, set()
        return changed


class Bus:
    """Tells subscribers that a run's ``run`` record, ``log``, ``metrics`` or ``files`` changed."""

    def __init__(self) -> None:
        self._of_run: dict[str, set[Subscription]] = {}
        self._of_all: set[Subscription] = set()
        self.subscribers = 0

    def touch(self, run_id: str, kind: str) -> None:
        """Wake whoever watches the run. Call on the loop's thread."""
        for subscription in self._of_run.get(run_id, ()):
            subscription.add(run_id, kind)
        if kind == "run":
            for subscription in self._of_all:
                subscription.add(run_id, kind)

    def watched(self) -> list[str]:
        """Runs that somebody watches one by one."""
        return list(self._of_run)

    def close(self) -> None:
        """The server is ending: wake all subscribers so that their streams end."""
        for subscription in [*self._of_all, *(s for watchers in self._of_run.values() for s in watchers)]:
            subscription.close()

    @contextmanager
    def subscribe(self, run_id: str | None) -> Iterator[Subscription]:
        """Watch one run, or the records of all with None."""
        subscription = Subscription()
        watchers = self._of_all if run_id is None else self._of_run.setdefault(run_id, set())
        watchers.add(subscription)
        self.subscribers += 1
        try:
            yield subscription
        finally:
            self.subscribers -= 1
            watchers.discard(subscription)
            if run_id is not None and not watchers:
                self._of_run.pop(run_id, None)
