"""Records of requests and locks: their keys, how long they hold, and taking away those that lead to nothing now."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection

from windlass import settings
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._flock import held_if_free
from windlassd.envs._layout import FORMAT, Layout, RequestRecord
from windlassd.envs.base import Builder

WRITING = "records"
"""Name of the lock that is held while a request's record and its lock appear together, and while locks are removed."""
_KEPT_S = 30 * 86400.0
"""What a request got before is told, and compared with, for so long after it expired."""


def request_key(builder: Builder, spec: EnvironmentSpec) -> str:
    """Equal for what leads to the same lock."""
    parts = {"format": FORMAT, "request": builder.request(spec), "spec": {**to_wire(spec), "name": None}}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def is_fresh(record: RequestRecord, now: float) -> bool:
    """Whether the request keeps its lock at Unix second ``now``."""
    ttl_s: float = settings.get("environment_ttl_s")
    return 0 <= now - record.made <= ttl_s


def older(record: RequestRecord) -> str:
    """The sentence on a lock that is used though it is not fresh any more."""
    on = time.strftime("%Y-%m-%d", time.gmtime(record.made))
    return f"The packages could not be looked up anew, so those of {on} are used as they were built then."


def sweep_records(layout: Layout, now: float, ttl_s: float, used: Collection[str] = ()) -> None:
    """Remove requests that expired long ago and whose environment is gone, then locks that nothing leads to.

    Args:
        layout: Of the cache; other servers may use it at the same time.
        now: Unix seconds.
        ttl_s: How long a request keeps its lock.
        used: Locks that runs need, whatever leads to them.
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
            _sweep_locks(layout, before, used)


def _leads_nowhere(layout: Layout, key: str, before: float, built: set[str]) -> bool:
    record = layout.request(key)
    if record is None:  # of another version, or damaged: nobody can use it
        return layout.record_time("requests", key) < before
    return record.made < before and record.lock not in built


def _sweep_locks(layout: Layout, before: float, used: Collection[str]) -> None:
    """No request's record can appear meanwhile; the lock of a build that is under way is younger than ``before``."""
    needed = {record.lock for _, record in layout.requests()}.union(layout.built_keys(), used)
    for key in layout.record_keys("resolved"):
        if key not in needed and layout.record_time("resolved", key) < before:
            os.unlink(layout.record_file("resolved", key))
