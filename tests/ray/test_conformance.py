"""The engine on a Ray cluster of three machines: against the suite that every engine passes."""

from __future__ import annotations

import pytest

from windlass.specs.cluster import ClusterSpec
from windlassd.compute.base import Engine, JobSpec
from windlassd.compute.ray import RayEngine
from windlassd.testing.engine_suite import EngineConformance
from windlassd.testing.ray_bed import RayBed

from .conftest import Link, settled

pytestmark = pytest.mark.ray


class TestRayEngine(EngineConformance):
    @pytest.fixture(autouse=True)
    def wake(self, link: Link) -> None:
        self.link = link

    @pytest.fixture
    def engine(self, fresh: RayEngine) -> RayEngine:
        return fresh

    @pytest.fixture
    def cluster(self, bed: RayBed) -> ClusterSpec:
        return bed.cluster()

    def submit(self, engine: Engine, job: JobSpec) -> str:
        native_id = super().submit(engine, job)
        assert isinstance(engine, RayEngine)
        settled(engine, self.link, native_id)
        return native_id
