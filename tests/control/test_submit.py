"""What is refused before it is queued."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import SNAPSHOT, World
from windlass.errors import AzureMLException, ComputeTargetException, ExperimentExecutionException, UserErrorException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.container import ContainerLaunch, ContainerOptions
from windlass.specs.run import RunSpec
from windlassd.compute.base import Feature
from windlassd.control import submit

SPEC = RunSpec(experiment="exp", script="train.py", snapshot_id=SNAPSHOT, target="c", source_directory="/home/me/src")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"experiment": ""}, UserErrorException, "cannot name an experiment"),
        ({"experiment": "a/b"}, UserErrorException, "'a/b' cannot name an experiment"),
        ({"experiment": "x" * 129}, UserErrorException, "1 to 128"),
        ({"experiment": "ok\n"}, UserErrorException, "cannot name"),
        ({"snapshot_id": "0" * 64}, ExperimentExecutionException, "not stored; submit the folder again"),
        ({"script": "tran.py"}, UserErrorException, "not in the source folder /home/me/src. Did you mean 'train.py'"),
        ({"script": "../train.py"}, UserErrorException, "'../train.py' is not in the source folder"),
        ({"target": "d"}, ComputeTargetException, "There is no compute target 'd' in this workspace"),
        ({"node_count": 0}, UserErrorException, "node_count is 0; it must be a whole number of 1 or more"),
        ({"node_count": "2"}, UserErrorException, "node_count is '2'"),
        ({"process_count_per_node": -1}, UserErrorException, "process_count_per_node is -1"),
        ({"node_count": 3}, ComputeTargetException, "'c' has at most 2 nodes. Ask for fewer nodes, or raise max_nodes"),
    ],
)
def test_each_refusal_names_the_value(
    in_world: InWorld, change: dict[str, Any], kind: type[AzureMLException], words: str
) -> None:
    async def work(world: World) -> None:
        await world.cluster(nodes=2)
        with pytest.raises(kind) as caught:
            await submit.create(world.core, replace(SPEC, **change), "req")
        assert words in str(caught.value)
        assert not world.core.read(lambda tx: tx.active_runs())

    in_world(work)


def test_what_the_engine_cannot_do_is_refused_with_its_reason(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(world: World) -> None:
        await world.cluster(nodes=2)
        monkeypatch.setattr(world.engine, "unsupported", lambda job: {Feature.NODES: "node_count=2: not here; use 1."})
        with pytest.raises(UserErrorException, match="use 1") as caught:
            submit.check(world.core, replace(SPEC, node_count=2))
        assert caught.value.error_code == "not_offered"

    in_world(work)


def test_a_repeated_request_is_the_same_run(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster()
        first, is_new = await submit.create(world.core, SPEC, "req")
        again, is_new_again = await submit.create(world.core, SPEC, "req")
        other, _ = await submit.create(world.core, SPEC, None)
        assert (is_new, is_new_again) == (True, False) and first.id == again.id != other.id
        experiment, seconds, digits = first.id.rsplit("_", 2)
        assert experiment == "exp" and abs(int(seconds) - first.created) <= 1 and len(bytes.fromhex(digits)) == 4

    in_world(work)


def test_a_dry_run_changes_nothing(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster()
        described = submit.describe(submit.plan(world.core, SPEC))
        assert described["plan"]["engine"] == "fake" and described["text"] == "pretend to run new on 1 nodes"
        assert not world.core.read(lambda tx: tx.active_runs()) and world.engine.submitted == []

    in_world(work)


def test_the_job_carries_the_spec(in_world: InWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_STOP_GRACE_S", "3.5")

    async def work(world: World) -> None:
        cluster = await world.cluster()
        spec = replace(SPEC, arguments=("--a", "1"), environment_variables={"A": "b"}, max_run_duration_s=7)
        job = submit.job_of(world.core, "r", spec, python="/p", attempt=2)
        assert (job.cluster, job.node_count, job.native_id) == (cluster, 1, "r.2")
        launch = job.launch
        assert (launch.script, launch.arguments, launch.python) == ("train.py", ("--a", "1"), "/p")
        assert (launch.environment_variables, launch.max_run_duration_s) == ({"A": "b"}, 7)
        assert (launch.stop_grace_s, launch.experiment) == (3.5, "exp")

    in_world(work)


def test_local_always_exists(in_world: InWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_LOCAL_SLOTS", "5")

    async def work(world: World) -> None:
        assert world.core.cluster("local") == ClusterSpec("local", max_nodes=5)
        assert world.core.cluster_or_none("gone") is None

    in_world(work)


def test_a_finished_image_becomes_the_launchs_container() -> None:
    spec = RunSpec("exp", "train.py", "5" * 64, container=ContainerOptions(shm_bytes=1 << 30, volumes=("/a:/b",)))
    found = submit.container_of(spec, {"python": "/p", "image": "sha256:abc", "engine": "unix:///e.sock"})
    assert found == ContainerLaunch("sha256:abc", "unix:///e.sock", spec.container)
    assert submit.container_of(spec, {"python": "/p", "image": None, "engine": None}) is None
    assert submit.unused_options(spec) == (
        "shm_size, volumes hold in containers only: the environment of this run has no image."
    )
    assert submit.unused_options(RunSpec("exp", "train.py", "5" * 64)) is None


def test_retries_that_no_other_node_could_take_are_told(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster()
        planned = submit.plan(world.core, replace(SPEC, max_retries=2))
        assert any("max_retries (2)" in step for step in planned.steps)
        assert not any("max_retries" in step for step in submit.plan(world.core, SPEC).steps)
        record = await world.run("r", max_retries=2)
        world.conductor.begin(record)
        await world.on_nodes("r")
        assert "max_retries (2) is for nodes that are other machines" in str(world.get("r").environment["notes"])

    in_world(work)
