"""Environments of runs whose nodes are other machines: resolved here for what those are, built there."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from windlass.errors import ComputeTargetException
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import EnvironmentLaunch
from windlass.specs.run import RunRecord
from windlassd.compute.base import Engine
from windlassd.compute.base import Target as Nodes
from windlassd.control.core import Core
from windlassd.envs.base import LeftToNodes, Lock, Ready
from windlassd.envs.target import Target

log = logging.getLogger(__name__)
_KEPT_LOCKS = 64
_LOOKING = 32
"""Runs whose lock is looked for at once: after a restart thousands may come together."""
UNKNOWN = "unknown"
"""Platform of nodes that nobody could be asked for."""
Preparing = Callable[[], AbstractAsyncContextManager[Callable[[str], None]]]
"""Makes the run Preparing, and gives what takes the lines of its log."""


class Elsewhere:
    """Belongs to the loop's thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._locks: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._looking = asyncio.Semaphore(_LOOKING)

    async def resolved(self, record: RunRecord, engine: Engine, preparing: Preparing) -> Ready:
        """What the nodes are to build, found at once or resolved; its lock stays until the run has ended.

        Raises:
            EnvironmentFailed: the packages cannot be had together.
        """
        spec, use = record.spec.environment, self._core.use(record.id)
        async with self._looking:
            found = await asyncio.to_thread(self._found, record, engine)
        if isinstance(found, Ready):
            return found
        async with preparing() as say:
            say(f"Resolving for {found.platform}; each node builds what comes of it.")
            try:
                lock = await self._core.builds.resolve(spec, found, say, use)
            except LeftToNodes as left:
                return self._left(spec, found.platform, left.message)
        return _described(lock, False)

    def launch(self, spec: EnvironmentSpec, environment: Mapping[str, Any]) -> EnvironmentLaunch | None:
        """What a node is told of the ``environment`` that a run's record describes; None when it is on this machine.

        A lock that is gone, which only somebody's hand can have brought about, leaves it to the nodes.
        """
        if not environment.get("platform"):
            return None
        key = str(environment.get("key") or "")
        return EnvironmentLaunch(spec, self._lock(key) if key else {})

    def _lock(self, key: str) -> Mapping[str, Any]:
        """As JSON, one object for all runs that wait with it."""
        known = self._locks.get(key)
        if known is None:
            lock = self._core.envs.for_targets.lock(key)
            if lock is None:
                log.warning("the lock %s is gone: the nodes resolve it themselves", key)
                return {}
            known = self._locks[key] = to_wire(lock)
            while len(self._locks) > _KEPT_LOCKS:
                self._locks.popitem(last=False)
        self._locks.move_to_end(key)
        return known

    def _found(self, record: RunRecord, engine: Engine) -> Ready | Target:
        """What needs no resolving, else what to resolve for. In a thread: the engine may have to ask its nodes."""
        spec, locks = record.spec.environment, self._core.envs.for_targets
        try:
            nodes = engine.target(self._core.cluster(record.spec.target))
        except ComputeTargetException as problem:  # such as a cluster of no nodes yet: what is there is known later
            log.info("the nodes for %s cannot be asked what they are: %s", record.id, problem.message)
            return self._left(spec, UNKNOWN, f"no node could be asked what it is ({problem.message.rstrip('.')})")
        target = locks.own() if nodes is None else _converted(nodes)
        if why := locks.left(spec, target):
            return self._left(spec, target.platform, why)
        lock = locks.find(spec, target, self._core.use(record.id))
        return _described(lock, True) if lock else target

    def _left(self, spec: EnvironmentSpec, platform: str, why: str) -> Ready:
        note = f"Each node resolves and makes the environment itself: {why}."
        return Ready(
            key="", builder=self._core.envs.for_targets.builder_name(spec), python="", python_version="", prefix=None,
            cached=False, seconds=0.0, notes=(note,), platform=platform,
        )  # fmt: skip


def _converted(nodes: Nodes) -> Target:
    return Target(nodes.platform, tuple(sorted(nodes.pythons.items())), nodes.gpus)


def _described(lock: Lock, cached: bool) -> Ready:
    return Ready(
        key=lock.key, builder=lock.builder, python="", python_version=lock.python_version, prefix=None, cached=cached,
        seconds=0.0, notes=tuple(lock.notes), platform=lock.platform,
    )  # fmt: skip
