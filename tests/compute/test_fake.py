"""The engine for tests against the suite that real engines pass."""

from __future__ import annotations

import pytest

from windlass.specs.cluster import ClusterSpec
from windlassd.compute.fake import FakeEngine
from windlassd.testing.engine_suite import CANCEL, EngineConformance, job_of


class TestFakeEngine(EngineConformance):
    @pytest.fixture
    def engine(self) -> FakeEngine:
        return FakeEngine()


def test_it_remembers_what_was_asked() -> None:
    engine, cluster = FakeEngine(), ClusterSpec("c", max_nodes=2)
    for name in "ab":
        engine.submit(engine.plan(job_of(name, cluster)))
    engine.cancel("b.1", CANCEL)
    engine.cancel("nobody", CANCEL)
    assert (engine.submitted, engine.canceled) == (["a.1", "b.1"], ["b.1"])


def test_a_failure_can_be_planned_once() -> None:
    engine, cluster = FakeEngine(), ClusterSpec("c")
    engine.fail_next = OSError("no route")
    with pytest.raises(OSError, match="no route"):
        engine.submit(engine.plan(job_of("a", cluster)))
    assert engine.capacity(cluster).busy == 0
    engine.submit(engine.plan(job_of("a", cluster)))
