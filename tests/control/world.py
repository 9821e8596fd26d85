"""A workspace's control without processes: a real store, a fake engine, a fake builder, and links that take notes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

from windlass.specs.cluster import ClusterSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import PartKey
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.blobs.files import FileBlobStore
from windlassd.compute.fake import FakeEngine
from windlassd.control.agents import AgentHub
from windlassd.control.bus import Bus
from windlassd.control.conductor import Conductor
from windlassd.control.core import Core
from windlassd.control.events import Events
from windlassd.control.monitor import Monitor
from windlassd.control.queue import Line
from windlassd.envs.cache import EnvironmentCache
from windlassd.store.sql import SqlStore
from windlassd.testing.engine_suite import RecordingLink
from windlassd.testing.fake_builder import FakeBuilder

SNAPSHOT = "5" * 64
PACKAGED = EnvironmentSpec(pip_packages=("tiny",))


class Hub(AgentHub):
    """The agents' hub, as far as events and the monitor use it; it starts no process."""

    def __init__(self) -> None:
        self.keys: list[PartKey] = []
        self.forgotten: list[PartKey] = []
        self.ahead = 0.0
        self.leases: dict[PartKey, float] = {}
        self.silence: Callable[[PartKey], float] = lambda key: 0.0

    def heard(self, agent: str, key: PartKey, started: bool = False) -> None:
        """Note it."""
        self.keys.append(key)

    def forget(self, key: PartKey) -> None:
        """Note it."""
        self.forgotten.append(key)

    def lose(self, key: PartKey) -> None:
        """Note it."""
        self.forgotten.append(key)

    def ahead_s(self, agent: str) -> float:
        """What the test says."""
        return self.ahead

    def lease_s(self, key: PartKey) -> float | None:
        """What the test says."""
        return self.leases.get(key)

    def excuse(self, deaf_s: float) -> None:
        """It has no clock of its own."""

    def silence_s(self, key: PartKey) -> float:
        """What the test says."""
        return self.silence(key)


class World:
    """``async with World(dir) as world``; leaving it is a server's end, another one on the same folder its restart."""

    def __init__(self, workspace_dir: str, engine: FakeEngine | None = None) -> None:
        self.dir = workspace_dir
        self.engine = engine or FakeEngine()
        self.builder = FakeBuilder()
        self.hub = Hub()
        self.verified: list[str] = []

    async def __aenter__(self) -> World:
        self.core = Core(
            workspace_dir=self.dir, store=SqlStore.open(self.dir),
            blobs=FileBlobStore(os.path.join(self.dir, "blobs")),
            envs=EnvironmentCache(os.path.join(self.dir, "environments"), builder_for=lambda spec: self.builder),
            bus=Bus(), link=RecordingLink(), loop=asyncio.get_running_loop(), engines={"local": self.engine},
        )  # fmt: skip
        self.line = Line(self.core.engine)
        self.conductor = Conductor(self.core, self.line, self.verified.append)
        self.events = Events(self.core, self.line, self.hub, self.conductor, self.verified.append)
        self.monitor = Monitor(self.core, self.hub, self.events.lose)
        files = [{"path": "train.py", "sha256": "a" * 64, "size": 1, "mode": 0o644}]
        await self.core.write(lambda tx: tx.add_snapshot(SNAPSHOT, files, 1.0))
        return self

    async def __aexit__(self, *problem: object) -> None:
        self.conductor.close()
        while self.conductor.active():
            await asyncio.sleep(0)
        self.core.envs.close()
        self.core.store.close()
        blobs = self.core.blobs
        assert isinstance(blobs, FileBlobStore)
        blobs.close()

    async def cluster(self, name: str = "c", nodes: int = 1) -> ClusterSpec:
        """A cluster of that many nodes."""
        spec = ClusterSpec(name, max_nodes=nodes)
        await self.core.write(lambda tx: tx.put_cluster(spec, 1.0))
        return spec

    async def run(self, run_id: str, *statuses: RunStatus, created: float = 10.0, **spec: Any) -> RunRecord:
        """A stored run that went through ``statuses``; nothing conducts it yet."""
        asked = RunSpec(**{"experiment": "exp", "script": "train.py", "snapshot_id": SNAPSHOT, "target": "c", **spec})
        await self.core.write(lambda tx: tx.create_run(run_id, asked, now=created))
        for status in statuses:
            await self.core.write(lambda tx, s=status: tx.transition(run_id, s, now=created, reason=Reason("x", "x.")))  # type: ignore[misc]
        return self.get(run_id)

    async def update(self, run_id: str, **changes: Any) -> RunRecord:
        """Set columns of a run."""
        return await self.core.write(lambda tx: tx.update_run(run_id, **changes))

    def get(self, run_id: str) -> RunRecord:
        """The record with its history."""
        return self.core.read(lambda tx: tx.get_run(run_id, history=True))

    async def until(self, run_id: str, reached: Callable[[RunRecord], bool], seconds: float = 20.0) -> RunRecord:
        """The record once ``reached`` holds, woken by the bus."""
        deadline = asyncio.get_running_loop().time() + seconds
        with self.core.bus.subscribe(run_id) as subscription:
            while not reached(record := self.get(run_id)):
                left = deadline - asyncio.get_running_loop().time()
                assert left > 0, f"it stays {record.status} ({record.reason})"
                await subscription.wait(left)
        return record

    async def on_nodes(self, run_id: str) -> RunRecord:
        """The record once the engine gave it nodes."""
        return await self.until(run_id, lambda run: bool(run.nodes))

    async def tell(self, run_id: str, kind: str, **more: Any) -> None:
        """One event of the agent."""
        await self.events.take("local", [event(run_id, kind, **more)])


def event(run_id: str, kind: str, **more: Any) -> Mapping[str, Any]:
    """An agent's event."""
    return {"run_id": run_id, "attempt": 1, "kind": kind, "time": 1.0, **more}


def statuses(record: RunRecord) -> list[str]:
    """The statuses a run went through, each once in a row."""
    found = [entry["status"] for entry in record.history]
    return [s for i, s in enumerate(found) if i == 0 or found[i - 1] != s]
