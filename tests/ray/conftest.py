"""One Ray cluster of machines for all tests here; what it is stands in ``windlassd/testing/ray_bed.py``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from windlassd.compute.base import JobState, Phase
from windlassd.compute.ray import RayEngine
from windlassd.testing.engine_suite import RecordingLink
from windlassd.testing.harness import Workspace
from windlassd.testing.netns import Network
from windlassd.testing.ray_bed import TOKEN, RayBed, until

pytestmark = pytest.mark.ray


@dataclass
class Link(RecordingLink):
    """Also wakes who waits for a change."""

    woken: threading.Condition = field(default_factory=threading.Condition)

    def changed(self, engine: str) -> None:
        """Note it, and wake."""
        super().changed(engine)
        with self.woken:
            self.woken.notify_all()

    def wait(self, reached: Callable[[], object], otherwise: str = "it did not come so", limit_s: float = 60.0) -> None:
        """Return when ``reached()`` holds after some change."""
        with self.woken:
            assert self.woken.wait_for(reached, limit_s), f"{otherwise} within {limit_s:g} s"


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayBed]:
    """The cluster."""
    with Network() as network:
        yield RayBed(network, tmp_path_factory.mktemp("bed"))


@pytest.fixture(scope="session")
def link() -> Link:
    """What the engine tells."""
    return Link(secrets={"three": TOKEN, "other": TOKEN})


@pytest.fixture(scope="session")
def connected(bed: RayBed, link: Link) -> Iterator[RayEngine]:
    """An engine that knows the cluster."""
    made = RayEngine(link)
    made.adopt(bed.cluster())
    yield made
    made.close()


@pytest.fixture
def fresh(connected: RayEngine, link: Link) -> Iterator[RayEngine]:
    """One on which nothing runs, before and after."""
    for notes in (link.started, link.adopted, link.stopped, link.ensured, link.enlisted, link.dismissed, link.changes):
        notes.clear()
    yield connected
    end_all(connected)


@pytest.fixture
def workspace(home: Path, bed: RayBed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace with the cluster attached, on whose machines clusters are made."""
    monkeypatch.setenv("WINDLASS_AGENTS_ADDRESS", bed.network.address)
    monkeypatch.setenv("WINDLASS_DEFAULT_ENGINE", "lab")
    made = Workspace()
    made.client.put("/v1/computes/lab/token", {"token": TOKEN})
    options = {"address": bed.address, "python": bed.driver_python()}
    spec = {"engine": "ray", "max_nodes": 3, "node_resources": {"CPU": 1, "GPU": 1}, "options": options}
    made.client.put("/v1/computes/lab", spec)
    yield made
    made.stop()
    made.wait_until_gone()


def end_all(engine: RayEngine) -> None:
    """End its jobs, and wait until nothing is left of them."""
    for native_id in list(engine._jobs):
        engine.ended(native_id)
    until(lambda: not engine._freed, "jobs were not freed")


def settled(engine: RayEngine, link: Link, native_id: str) -> JobState:
    """The state of a job once Ray has given its nodes, or cannot."""
    link.wait(lambda: engine.poll([native_id])[native_id].phase is not Phase.PENDING, f"{native_id} got no nodes")
    return engine.poll([native_id])[native_id]
