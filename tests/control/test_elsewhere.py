"""Runs whose nodes are other machines: their packages are resolved here, and the nodes tell what they make of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from control.conftest import InWorld
from control.world import PACKAGED, World, statuses
from windlass.errors import ComputeTargetException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.container import ContainerOptions, ContainerSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import EnvironmentLaunch, LaunchSpec
from windlass.specs.status import RunStatus
from windlassd.blobs.run_folder import BUILD_LOG
from windlassd.compute.base import JobSpec, Target
from windlassd.compute.fake import FakeEngine
from windlassd.control.environments import Environments
from windlassd.envs.base import Work

NODES = Target("linux-aarch64-glibc2.17", {"3.9.18": "/opt/python3.9"})


class Far(FakeEngine):
    elsewhere = True

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Exception | None = None

    def target(self, cluster: ClusterSpec) -> Target | None:
        if self.trouble:
            raise self.trouble
        return NODES

    def launch(self, native_id: str) -> LaunchSpec:
        job: JobSpec = self._jobs[native_id][0]
        return job.launch


@pytest.fixture
def far(in_world: InWorld) -> Callable[[Callable[[World, Far], Awaitable[None]]], None]:
    """Runs a coroutine in a world whose engine's nodes are elsewhere; its packages are resolved by the fake builder."""

    def run(work: Callable[[World, Far], Awaitable[None]]) -> None:
        engine = Far()

        async def with_fake_builder(world: World) -> None:
            envs = world.core.envs
            envs.for_targets = replace(envs.for_targets, own_builder_for=lambda spec, target: world.builder)
            await world.cluster(nodes=2)
            await work(world, engine)

        in_world(with_fake_builder, engine)

    return run


InFar = Callable[[Callable[[World, Far], Awaitable[None]]], None]


def test_packages_are_resolved_here_and_nothing_is_built(far: InFar) -> None:
    async def work(world: World, engine: Far) -> None:
        world.conductor.begin(await world.run("r", environment=PACKAGED))
        run = await world.on_nodes("r")
        assert statuses(run) == ["NotStarted", "Preparing", "Queued"]
        assert (world.builder.resolved, world.builder.built) == (1, 0)
        asked = engine.launch("r.1").environment
        assert asked is not None and asked.spec == PACKAGED and asked.lock["requirements"] == ["tiny==1.0"]
        assert engine.launch("r.1").python == "", "which the node finds"
        assert run.environment["key"] and run.environment["platform"] == "fake" and not run.environment["python"]
        with open(world.core.folder("r").log(BUILD_LOG)) as log:
            assert "Resolving for linux-aarch64-glibc2.17" in log.read()

    far(work)


def test_what_was_resolved_before_is_found_at_once_and_shared(far: InFar) -> None:
    async def work(world: World, engine: Far) -> None:
        for run_id in ("a", "b"):
            world.conductor.begin(await world.run(run_id, environment=PACKAGED))
            await world.on_nodes(run_id)
        assert "Preparing" not in statuses(world.get("b")) and world.get("b").environment["cached"] is True
        first, second = engine.launch("a.1").environment, engine.launch("b.1").environment
        assert first and second and first.lock is second.lock, "ten thousand runs that wait have one lock in memory"

    far(work)


def test_packages_that_cannot_be_had_never_hold_a_node(far: InFar) -> None:
    async def work(world: World, engine: Far) -> None:
        world.conductor.begin(await world.run("r", environment=EnvironmentSpec(pip_packages=("nosuch",))))
        run = await world.until("r", lambda run: run.status.final)
        assert run.reason is not None and run.reason.code == "environment_failed" and "'nosuch'" in run.reason.message
        assert engine.submitted == []

    far(work)


def test_a_canceled_run_stops_waiting_for_its_packages(far: InFar) -> None:
    async def work(world: World, engine: Far) -> None:
        begun, loop, stopped = asyncio.Event(), asyncio.get_running_loop(), asyncio.Event()
        resolve = world.builder.resolve

        def slow(spec: EnvironmentSpec, work: Work):  # type: ignore[no-untyped-def]
            loop.call_soon_threadsafe(begun.set)
            assert work.stop.wait(20)
            loop.call_soon_threadsafe(stopped.set)
            return resolve(spec, work)

        world.builder.resolve = slow  # type: ignore[method-assign]
        world.conductor.begin(await world.run("r", environment=PACKAGED))
        await begun.wait()
        assert (await world.conductor.cancel("r")).status is RunStatus.CANCELED
        await stopped.wait()

    far(work)


def test_a_cluster_without_nodes_leaves_it_to_those_that_come(far: InFar) -> None:
    async def work(world: World, engine: Far) -> None:
        engine.trouble = ComputeTargetException("The cluster has no node now.")
        world.conductor.begin(await world.run("r", environment=PACKAGED))
        run = await world.on_nodes("r")
        assert engine.launch("r.1").environment == EnvironmentLaunch(PACKAGED, {})
        (note,) = run.environment["notes"]
        assert "Each node resolves" in note and "The cluster has no node now" in note

    far(work)


def test_an_image_is_made_by_the_node_with_the_runs_options(far: InFar) -> None:
    async def work(world: World, engine: Far) -> None:
        world.core.envs.for_targets = replace(world.core.envs.for_targets, own_builder_for=None)
        spec, options = EnvironmentSpec(container=ContainerSpec(image="a:1")), ContainerOptions(shm_bytes=5)
        world.conductor.begin(await world.run("r", environment=spec, container=options))
        run = await world.on_nodes("r")
        launch = engine.launch("r.1")
        assert launch.environment == EnvironmentLaunch(spec, {})
        assert launch.container is not None and launch.container.options == options
        (note,) = run.environment["notes"]
        assert run.environment["builder"] == "container" and "container engine of the node" in note

    far(work)


def test_a_restarted_server_gives_the_same_lock_again(far: InFar, in_world: InWorld) -> None:
    async def before(world: World, engine: Far) -> None:
        world.conductor.begin(await world.run("r", environment=PACKAGED))
        await world.on_nodes("r")

    far(before)
    again = Far()

    async def after(world: World) -> None:
        await Environments(world.core).start()
        await world.conductor.resume()
        launch = again.launch("r.1")
        assert launch.environment is not None and launch.environment.lock["requirements"] == ["tiny==1.0"]
        (lock,) = world.core.envs.for_targets.list()
        assert [use.run_id for use in lock.in_use] == ["r"], "it stays as long as the run may need it"
        world.core.envs.release(world.core.use("r"))
        assert not world.core.envs.for_targets.list()[0].in_use

    in_world(after, again)


def test_a_lock_that_is_gone_leaves_it_to_the_nodes(far: InFar, in_world: InWorld) -> None:
    async def before(world: World, engine: Far) -> None:
        world.conductor.begin(await world.run("r", environment=PACKAGED))
        key = (await world.on_nodes("r")).environment["key"]
        os.unlink(os.path.join(world.core.envs.root, "resolved", f"{key}.json"))

    far(before)
    again = Far()

    async def after(world: World) -> None:
        await world.conductor.resume()
        assert again.launch("r.1").environment == EnvironmentLaunch(PACKAGED, {})

    in_world(after, again)


def test_a_run_says_which_nodes_make_its_environment(far: InFar) -> None:
    async def work(world: World, engine: Far) -> None:
        world.conductor.begin(await world.run("r", environment=PACKAGED, node_count=2))
        await world.on_nodes("r")

        def said() -> tuple[RunStatus, str, str]:
            run = world.get("r")
            assert run.reason
            return run.status, run.reason.code, run.reason.message

        await world.tell("r", "preparing", rank=1, node="c-1")
        assert said() == (RunStatus.QUEUED, "preparing_nodes", "1 of 2 nodes make its environment: c-1.")
        await world.tell("r", "preparing", rank=0, node="c-0")
        assert said()[2] == "2 of 2 nodes make its environment: c-0, c-1."
        about = {"key": "k", "python_version": "3.9.17", "notes": ["stands in"]}
        await world.tell("r", "prepared", rank=1, node="c-1", environment=about)
        await world.tell("r", "prepared", rank=0, node="c-0", environment=about)
        assert said() == (RunStatus.QUEUED, "starting", "It starts on c-0, c-1.")
        assert [part["environment"] for part in world.get("r").parts] == [about, about]
        await world.tell("r", "started", rank=0, node="c-0", pids=[1])
        await world.tell("r", "preparing", rank=0, node="c-0")  # told again by an agent that lost the answer
        assert world.get("r").status is RunStatus.RUNNING

    far(work)
