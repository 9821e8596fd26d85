"""The lease of a part whose run may be begun anew elsewhere (DESIGN decision 8): without word from the server it ends.

One timer, which knows nothing of heartbeats. It runs from the moment at which the last call that the server answered
was begun: the server has heard of this node no earlier than that, so that when it counts the part as lost, after twice
the lease, the processes here are gone for certain. The clock is one that nobody sets and that goes on while the machine
is suspended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from windlassd.agent.uplink import now

_LOOKS = 20
"""A wait may be slept through with the machine; it is made of this many, so that little more than the lease passes."""


class Lease:
    """Safe to use from any thread.

    Args:
        lapsed: Called once, on a thread of its own, when the lease lapses.
        clock: Seconds, as ``uplink.now``.
    """

    def __init__(self, lapsed: Callable[[], None], clock: Callable[[], float] = now) -> None:
        self._lapsed = lapsed
        self._clock = clock
        self._change = threading.Condition()
        self._lease_s: float | None = None
        self._heard = clock()

    def answered(self, sent: float) -> None:
        """The server answered a call that was begun at ``sent``."""
        with self._change:
            self._heard = max(self._heard, sent)

    def hold(self, lease_s: float) -> None:
        """From now on the lease counts.

        An agent may have waited long for its part with one call open: so it counts from now at the earliest. Between
        the order and the first process lies the call for the snapshot, which the server must have answered.
        """
        with self._change:
            if self._lease_s is not None:
                return
            self._lease_s = lease_s
            self._heard = max(self._heard, self._clock())
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def end(self) -> None:
        """Nothing is left that would have to be ended."""
        with self._change:
            self._lease_s = None
            self._change.notify_all()

    def _watch(self) -> None:
        with self._change:
            while self._lease_s is not None:
                left = self._heard + self._lease_s - self._clock()
                if left <= 0:
                    break
                self._change.wait(min(left, self._lease_s / _LOOKS))
            else:
                return
        self._lapsed()
