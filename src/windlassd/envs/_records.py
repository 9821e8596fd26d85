"""Records of requests and locks that lead to nothing any more: they go, so that a home does not fill up with them."""

from __future__ import annotations

import os

from windlassd.envs._flock import held_if_free
from windlassd.envs._layout import Layout

WRITING = "records"
"""Name of the lock that is held while a request's record and its lock appear together, and while locks are removed."""
_KEPT_S = 30 * 86400.0
"""What a request got before is told, and compared with, for so long after it expired."""


def sweep_records(layout: Layout, now: float, ttl_s: float) -> None:
    """Remove requests that expired long ago and whose environment is gone, then locks that nothing leads to.

    Args:
        layout: Of the cache; other servers may use it at the same time.
        now: Unix seconds.
        ttl_s: How long a request keeps its lock.
    """
    before = now - ttl_s - _KEPT_S
    built = set(layout.built_keys())
    for key in layout.record_keys("requests"):
        if _leads_nowhere(layout, key, before, built):
            with held_if_free(layout.lock_file(key)) as mine:
                if mine and _leads_nowhere(layout, key, before, set(layout.built_keys())):
                    layout.forget_request(key)
    with held_if_free(layout.lock_file(WRITING)) as mine:
        if mine:
            _sweep_locks(layout, before)


def _leads_nowhere(layout: Layout, key: str, before: float, built: set[str]) -> bool:
    record = layout.request(key)
    if record is None:  # of another version, or damaged: nobody can use it
        return layout.record_time("requests", key) < before
    return record.made < before and record.lock not in built


def _sweep_locks(layout: Layout, before: float) -> None:
    """No request's record can appear meanwhile; the lock of a build that is under way is younger than ``before``."""
    needed = {record.lock for _, record in layout.requests()}.union(layout.built_keys())
    for key in layout.record_keys("resolved"):
        if key not in needed and layout.record_time("resolved", key) < before:
            os.unlink(layout.record_file("resolved", key))
