"""A cluster that Ray's own autoscaler makes larger and smaller: machines come when a job needs them, and go again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.specs.cluster import ClusterSpec
from windlassd.compute.base import Capacity, NodeStatus, Phase
from windlassd.compute.ray import RayEngine
from windlassd.testing.engine_suite import CANCEL, job_of
from windlassd.testing.netns import Network
from windlassd.testing.ray_bed import TOKEN, RayBed, until
from windlassd.testing.ray_cloud import Cloud

from .conftest import Link, settled

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
_SECOND = {"RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
_FIRST = {"RAY_enable_autoscaler_v2": "0", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}


@pytest.fixture
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RayBed]:
    """A machine for a head, with one of Ray's autoscalers; it has no others yet."""
    with Network() as network:
        yield RayBed(network, tmp_path, workers=None, variables=request.param)


@pytest.fixture
def cloud(bed: RayBed) -> Iterator[Cloud]:
    """Where machines come from."""
    with Cloud(bed) as made:
        yield made


@pytest.fixture
def link() -> Link:
    return Link(secrets={"elastic": TOKEN})


@pytest.fixture
def cluster(bed: RayBed, cloud: Cloud) -> ClusterSpec:
    return bed.cluster("elastic", max_nodes=2, node_resources={"CPU": 3}, idle_seconds_before_scaledown=1)


@pytest.fixture
def engine(link: Link, cluster: ClusterSpec) -> Iterator[RayEngine]:
    made = RayEngine(link)
    made.adopt(cluster)
    yield made
    made.close()


@pytest.mark.parametrize("bed", [_SECOND], ids=["newer"], indirect=True)
def test_machines_come_for_a_job_and_go_after_it(
    engine: RayEngine, cluster: ClusterSpec, link: Link, cloud: Cloud
) -> None:
    link.wait(lambda: engine._reach(cluster).autoscaler, "the autoscaler was not seen")
    assert engine.capacity(cluster) == Capacity(target=0, current=0, idle=0, busy=0)
    cloud.boots.clear()
    native_id = engine.submit(engine.plan(job_of("a", cluster, 2)))
    link.wait(lambda: engine.capacity(cluster).preparing, "nothing is being prepared")
    state = engine.poll([native_id])[native_id]
    assert state.phase is Phase.PENDING and "on their way" in state.message
    assert engine.capacity(cluster).target == 2
    engine.cancel(native_id, CANCEL)
    assert engine.poll([native_id])[native_id].phase is Phase.ENDED
    engine.ended(native_id)

    cloud.boots.set()
    native_id = engine.submit(engine.plan(job_of("b", cluster, 2)))
    assert settled(engine, link, native_id).phase is Phase.RUNNING
    assert engine.capacity(cluster) == Capacity(target=2, current=2, idle=0, busy=2) and cloud.up == 2
    assert {node.run_id for node in engine.nodes(cluster)} == {"b"}
    engine.ended(native_id)
    link.wait(lambda: engine.capacity(cluster).idle, "they were not idle after it")
    until(lambda: cloud.up == 0, "Ray did not give the machines back")
    until(lambda: engine.capacity(cluster).current == 0, "they are still counted")


@pytest.mark.parametrize("bed", [_FIRST], ids=["older"], indirect=True)  # the newer one does not tell what failed
def test_the_least_number_of_nodes_is_kept_and_what_fails_is_told(
    engine: RayEngine, cluster: ClusterSpec, bed: RayBed, link: Link, cloud: Cloud
) -> None:
    link.wait(lambda: engine._reach(cluster).autoscaler, "the autoscaler was not seen")
    cloud.refuse("the quota of this account is used up")
    native_id = engine.submit(engine.plan(job_of("a", cluster)))
    until(lambda: "It failed to of late: " in engine.poll([native_id])[native_id].message, "no reason was told")
    engine.cancel(native_id, CANCEL)
    engine.ended(native_id)
    cloud.refuse(None)

    kept = bed.cluster("elastic", min_nodes=1, max_nodes=2, node_resources={"CPU": 3}, idle_seconds_before_scaledown=1)
    engine.adopt(kept)
    link.wait(lambda: engine.capacity(kept).idle == 1, "the least number was not made")
    assert [node.status for node in engine.nodes(kept)] == [NodeStatus.IDLE]
    engine.discard(kept)
    until(lambda: cloud.up == 0, "Ray did not give the machine back")
