"""What the use cases of one workspace share: store, blobs, environments, engines, agents, line and bus."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from windlass import settings
from windlass.errors import ComputeTargetException, did_you_mean
from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason
from windlassd.blobs.base import BlobStore
from windlassd.blobs.whole_run import WholeRun
from windlassd.compute import registry
from windlassd.compute.base import AgentLink, Engine
from windlassd.control.builds import Builds
from windlassd.control.bus import Bus
from windlassd.control.enlisting import Door
from windlassd.envs.cache import EnvironmentCache, Use
from windlassd.store.base import Reader, Store, StoreError, Writer

T = TypeVar("T")
log = logging.getLogger(__name__)
LOCAL = "local"
_REWRITTEN = (
    "The database, which an older version of Windlass made, is written anew to give its free room back to the disk. "
    "This happens once and takes about as long as copying it."
)


@dataclass(frozen=True)
class Trouble:
    """Nothing can be recorded at present."""

    message: str
    since: float
    until: str = "is mended"

    def reason(self) -> Reason:
        """What a run that has not ended shows meanwhile instead of its own reason."""
        at = time.strftime("%H:%M:%S UTC", time.gmtime(self.since))
        return Reason(
            "not_recorded",
            f"Since {at} nothing can be recorded. {self.message} What happens to the run meanwhile is recorded as"
            f" soon as this {self.until}.",
        )


@dataclass
class Core:
    """Handed to every use case. Engines are loaded when a cluster first needs them."""

    workspace_dir: str
    store: Store
    blobs: BlobStore
    envs: EnvironmentCache
    bus: Bus
    link: AgentLink
    loop: asyncio.AbstractEventLoop
    engines: dict[str, Engine] = field(default_factory=dict)
    clusters: dict[str, ClusterSpec] = field(default_factory=dict)
    """As they are in the store, kept by ``Clusters``: each run asks for its own several times."""
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while something that is stored is made to hold blobs, or blobs that nothing holds are freed."""
    trouble: Trouble | None = None
    """Why nothing can be recorded at present; None when the last write went well."""

    freeing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while what was deleted is freed, and by a backup, which counts on what the records of its moment have."""
    door: Door | None = None
    """The listener for agents on other machines, whether it is open or not; None where there can be none."""

    def __post_init__(self) -> None:
        self.builds = Builds(self.envs, self.loop)

    async def write(self, work: Callable[[Writer], T]) -> T:
        """``store.write`` for the loop's thread; whether it can write at all is remembered in ``trouble``."""
        try:
            result = await asyncio.wrap_future(self.store.write(work))
        except StoreError as problem:
            if self.trouble is None or self.trouble.message != problem.message:
                self._set_trouble(Trouble(problem.message, time.time()))
            raise
        if self.trouble is not None:
            self._set_trouble(None)
        return result

    async def shrink(self) -> None:
        """Give the database's free room back to the disk; while that holds up all writes, runs say so."""
        if self.store.space().rewrites:
            log.info("the database is written anew, once, to give its free room back; writes wait for it")
            self._set_trouble(Trouble(_REWRITTEN, time.time(), "is done"))
        try:
            while await asyncio.wrap_future(self.store.shrink()):
                pass
        finally:
            if self.trouble is not None and self.trouble.message == _REWRITTEN:
                self._set_trouble(None)

    def read(self, work: Callable[[Reader], T]) -> T:
        """``store.read``; quick questions only on the loop's thread."""
        return self.store.read(work)

    def touch_soon(self, run_id: str, kind: str) -> None:
        """``bus.touch`` from any thread."""
        self.loop.call_soon_threadsafe(self.bus.touch, run_id, kind)

    def use(self, run_id: str) -> Use:
        """What tells the environments that the run needs one."""
        return Use(self.workspace_dir, run_id)

    def folder(self, run_id: str) -> WholeRun:
        """The run's folder on this machine, with what all of its nodes keep."""
        return WholeRun(self.workspace_dir, run_id)

    def engine(self, cluster: ClusterSpec) -> Engine:
        """The engine behind a cluster."""
        if cluster.engine not in self.engines:
            self.engines[cluster.engine] = registry.load(cluster.engine, self.link)
        return self.engines[cluster.engine]

    def cluster(self, name: str) -> ClusterSpec:
        """The cluster of that name; ``local`` always exists.

        Raises:
            ComputeTargetException: there is none; the message has near matches and what exists.
        """
        if name in self.clusters:
            return self.clusters[name]
        found = self.read(lambda tx: tx.find_cluster(name))
        if found:
            return found[0]
        if name == LOCAL:
            return local_cluster()
        known = [LOCAL, *(spec.name for spec, _, _ in self.read(lambda tx: tx.clusters()))]
        raise ComputeTargetException(
            f"There is no compute target {name!r} in this workspace.{did_you_mean(name, known)} "
            f"It has: {', '.join(known)}. Make one with ComputeTarget.create or `windlass compute create`."
        )

    def cluster_or_none(self, name: str) -> ClusterSpec | None:
        """As ``cluster``, None when it was deleted meanwhile."""
        try:
            return self.cluster(name)
        except ComputeTargetException:
            return None

    def _set_trouble(self, trouble: Trouble | None) -> None:
        """Remember it, and wake all who watch a run that has not ended: its reason reads differently now."""
        self.trouble = trouble
        try:
            active = self.read(lambda tx: tx.active_runs())
        except StoreError:  # reads fail as well: who watches asks again by itself
            return
        for record in active:
            self.bus.touch(record.id, "run")

    @property
    def name(self) -> str:
        """The workspace's name."""
        return os.path.basename(self.workspace_dir)


def local_cluster() -> ClusterSpec:
    """This machine without any provisioning: v1's target ``'local'``."""
    return ClusterSpec(name=LOCAL, engine="local", max_nodes=settings.steady("local_slots"))
