"""What can be lost under a job on Ray, how the engine sees it, and that nothing of an ended job is left anywhere."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from windlass.errors import ComputeTargetException
from windlassd.compute.base import JobState, NoCapacity, NodeStatus, Phase
from windlassd.compute.ray import RayEngine
from windlassd.testing.engine_suite import CANCEL, job_of
from windlassd.testing.netns import Machine
from windlassd.testing.ray_bed import TOKEN, RayBed, command, stand_ins, until

from .conftest import Link, end_all, settled

pytestmark = pytest.mark.ray
_THEIRS = """
import ray, sys
ray.init(address={address!r}, log_to_driver=False, logging_level="ERROR")
class Theirs:
    def ready(self): pass
actors = [ray.remote(Theirs).options(num_cpus=4).remote() for _ in range(2)]
ray.get([actor.ready.remote() for actor in actors])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(fresh: RayEngine, bed: RayBed, link: Link) -> Iterator[RayEngine]:
    """With three machines, before and after."""
    until(lambda: len(usable(fresh, bed)) == 3, "the machines are not there")
    yield fresh
    end_all(fresh)
    for machine in bed.workers:
        bed.end_stand_ins(machine)  # of a test that failed
        if machine.up and not any(p.name() == "raylet" for p in machine.processes()):
            machine.kill()
        if not machine.up:
            machine.restart()
            bed.start_worker(machine)
    until(lambda: len(usable(fresh, bed)) == 3, "the machines did not come back")


def usable(engine: RayEngine, bed: RayBed) -> list[str]:
    return [node.name for node in engine.nodes(bed.cluster()) if node.status is NodeStatus.IDLE]


@pytest.fixture
def nothing_left(engine: RayEngine, bed: RayBed) -> Callable[[], None]:
    """A check that nothing of any job is left on the cluster."""

    def check() -> None:
        until(lambda: not engine._freed, "jobs were not freed")
        until(lambda: not bed.left(), lambda: f"something was left: {bed.left()}")

    return check


def begin(engine: RayEngine, bed: RayBed, link: Link, run_id: str, nodes: int = 2, **changes: object) -> JobState:
    """A job whose agents run."""
    job = job_of(run_id, bed.cluster(**changes), nodes)  # type: ignore[arg-type]
    native_id = engine.submit(engine.plan(job))
    state = settled(engine, link, native_id)
    assert state.phase is Phase.RUNNING, state.message
    until(lambda: all(told(bed, node, f"{native_id}.{rank}") for rank, node in enumerate(state.nodes)), "no agents")
    return state


def machine_of(bed: RayBed, node: str) -> Machine:
    return next(m for m in bed.workers if m.name == node.partition(".")[0])


def told(bed: RayBed, node: str, agent: str) -> dict[str, object] | None:
    """What the stand-in for an agent was told."""
    path = machine_of(bed, node).path(f"/tmp/agents/{agent}.json")
    return json.loads(path.read_text()) if path.exists() else None


def lost(engine: RayEngine, link: Link, native_id: str) -> JobState:
    link.wait(lambda: engine.poll([native_id])[native_id].phase is Phase.LOST, "it was not lost")
    return engine.poll([native_id])[native_id]


def test_agents_get_tickets_addresses_and_gpus_by_rank(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    state = begin(engine, bed, link, "a", 3, node_resources={"CPU": 2, "GPU": 1})
    assert list(state.nodes) == ["ray1", "ray2", "ray3"]  # by address
    begin(engine, bed, link, "b", 1, node_resources={"CPU": 1, "GPU": 1}, name="other")
    agents = dict(link.started)
    parts = [agents[f"a.1.{rank}"] for rank in range(3)]
    assert [part.addresses for part in parts] == [tuple(m.address for m in bed.workers)] * 3
    assert all(part.node_variables["OMP_NUM_THREADS"] == "2" for part in parts)
    at = agents["b.1.0"]
    beside = next(part for part in parts if part.node == at.node.partition(".")[0])
    assert {at.node_variables["CUDA_VISIBLE_DEVICES"], beside.node_variables["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
    seen = told(bed, "ray2", "a.1.1")
    assert seen is not None and seen["ticket"]["agent"] == "a.1.1"  # type: ignore[index]
    assert not [name for name in seen["variables"] if name.startswith("RAY_")]  # type: ignore[attr-defined]
    assert "token" not in " ".join(seen["arguments"])  # type: ignore[arg-type]
    shown = engine.nodes(bed.cluster(node_resources={"CPU": 2, "GPU": 1}))
    assert [(node.run_id, len(node.gpus)) for node in shown if node.run_id] == [("a", 1)] * 3
    for native_id in ("a.1", "b.1"):
        engine.ended(native_id)
    nothing_left()
    assert sorted(link.dismissed) == ["a.1.0", "a.1.1", "a.1.2", "b.1.0"]


def test_the_death_of_what_keeps_a_place_loses_the_job_and_ends_the_agent(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    state = begin(engine, bed, link, "a")
    bed.place(machine_of(bed, state.nodes[1])).send_signal(signal.SIGKILL)
    words = lost(engine, link, "a.1").message
    assert words.startswith(f"{state.nodes[1]}: Ray lost what kept its place on the node"), words
    until(lambda: not stand_ins(machine_of(bed, state.nodes[1])), "the agent lives on without its place")
    assert stand_ins(machine_of(bed, state.nodes[0]))
    engine.ended("a.1")
    nothing_left()


def test_an_agent_that_fails_says_why_and_a_gang_that_started_partly_is_torn_down(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    broken = bed.workers[1]
    broken.run("mkdir", "-p", "/tmp/agents")
    broken.path("/tmp/agents/fail").write_text("3 no room on the disk")
    try:
        engine.submit(engine.plan(job_of("a", bed.cluster(), 3)))
        words = lost(engine, link, "a.1").message
        assert words == "ray2: The agent ended with exit code 3: no room on the disk"
        engine.ended("a.1")
        nothing_left()
    finally:
        broken.path("/tmp/agents/fail").unlink()


def test_a_machine_that_dies(engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]) -> None:
    state = begin(engine, bed, link, "a")
    machine_of(bed, state.nodes[0]).kill()
    assert lost(engine, link, "a.1").message.startswith(f"{state.nodes[0]}: ")
    engine.ended("a.1")
    nothing_left()


def test_ray_itself_dies_on_a_machine(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    state = begin(engine, bed, link, "a")
    machine = machine_of(bed, state.nodes[0])
    bed.raylet(machine).send_signal(signal.SIGKILL)
    assert lost(engine, link, "a.1").message.startswith(f"{state.nodes[0]}: ")
    until(lambda: not stand_ins(machine), "the agent lives on without Ray")
    engine.ended("a.1")
    nothing_left()


def test_a_cut_link_is_noticed_and_what_went_on_there_ends_when_it_heals(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    state = begin(engine, bed, link, "a")
    machine = machine_of(bed, state.nodes[0])
    machine.cut()
    assert lost(engine, link, "a.1").message.startswith(f"{state.nodes[0]}: ")
    engine.ended("a.1")
    machine.heal()
    nothing_left()  # Ray ends there when it hears that it was given up


def test_a_server_that_is_killed_finds_its_job_again_and_ends_what_nobody_knows(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    state = begin(engine, bed, link, "a")
    begin(engine, bed, link, "b", 1)
    engine.close()  # both go on; the next server knows of one only
    after = Link(secrets=link.secrets)
    second = RayEngine(after, settled_s=0.0)
    try:
        second.reattach(job_of("a", bed.cluster(), 2), state.nodes, True)
        assert second.poll(["a.1"])["a.1"] == JobState(Phase.RUNNING, state.nodes)
        assert [agent for agent, _, started in after.adopted if started] == ["a.1.0", "a.1.1"]
        second.adopt(bed.cluster())
        until(lambda: not any("b.1" in name for name in bed.left()), "what nobody knows of is still there")
        assert second.poll(["a.1"])["a.1"].phase is Phase.RUNNING and after.started == []
        bed.place(machine_of(bed, state.nodes[0])).kill()  # it is watched again
        assert lost(second, after, "a.1").message.startswith(state.nodes[0])
        second.ended("a.1")
        until(lambda: not second._freed, "the job was not freed")
    finally:
        second.close()
        engine._jobs.clear()
        engine.adopt(bed.cluster())
    nothing_left()


def test_a_driver_that_is_killed_is_replaced_and_nothing_is_started_twice(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    begin(engine, bed, link, "a")
    there = engine._reach(bed.cluster())
    [driver] = [p for p in bed.head.processes() if "_ray_driver.py" in command(p)]
    driver.kill()
    link.wait(lambda: not there.up, "its death was not noticed")
    link.wait(lambda: there.up and there.problem is None, "there is no new driver")
    assert engine.poll(["a.1"])["a.1"].phase is Phase.RUNNING
    assert len(link.started) == 2
    engine.ended("a.1")
    nothing_left()


def test_the_head_restarts_while_a_job_runs(
    engine: RayEngine, bed: RayBed, link: Link, nothing_left: Callable[[], None]
) -> None:
    state = begin(engine, bed, link, "a")
    there = engine._reach(bed.cluster())
    bed.stop_head()
    link.wait(lambda: there.problem is not None, "the head's death was not noticed")
    assert engine.poll(["a.1"])["a.1"].phase is Phase.RUNNING and engine.poll(["a.1"])["a.1"].message
    assert all(stand_ins(machine_of(bed, node)) for node in state.nodes)
    with pytest.raises(NoCapacity, match="has no nodes now"):
        engine.submit(engine.plan(job_of("b", bed.cluster())))
    held = engine._jobs["a.1"]
    before = held.bundles
    bed.start_head()
    link.wait(lambda: held.bundles is not before, "the job was not found again")
    assert engine.poll(["a.1"])["a.1"] == JobState(Phase.RUNNING, state.nodes)
    bed.place(machine_of(bed, state.nodes[1])).kill()
    assert lost(engine, link, "a.1").message.startswith(state.nodes[1])
    engine.ended("a.1")
    nothing_left()


def test_a_cluster_that_stays_away_loses_its_jobs_in_the_end(
    engine: RayEngine, bed: RayBed, link: Link, monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[], None]
) -> None:
    begin(engine, bed, link, "a", 1)
    there = engine._reach(bed.cluster())
    [head] = [p for p in bed.head.processes() if p.name() == "gcs_server"]
    head.suspend()
    link.wait(lambda: there.problem is not None, "nobody noticed")
    assert engine.poll(["a.1"])["a.1"].phase is Phase.RUNNING
    monkeypatch.setenv("WINDLASS_NODE_LOST_AFTER_S", "0.5")
    until(lambda: engine.poll(["a.1"])["a.1"].phase is Phase.LOST, "it was not lost")
    assert "does not answer" in engine.poll(["a.1"])["a.1"].message
    head.resume()
    link.wait(lambda: there.problem is None, "nobody noticed that it is back")
    engine.ended("a.1")
    nothing_left()


def test_others_on_the_cluster_leave_less_and_are_left_alone(engine: RayEngine, bed: RayBed, link: Link) -> None:
    theirs = bed.begin(_THEIRS.format(address=bed.address))
    until(lambda: engine.capacity(bed.cluster(node_resources={"CPU": 3})).idle == 1, "others' share was not seen")
    with pytest.raises(NoCapacity, match=r"three has 1 of 2 machines free \(CPU 3 on each\)"):
        engine.submit(engine.plan(job_of("a", bed.cluster(node_resources={"CPU": 3}), 2)))
    begin(engine, bed, link, "b", 1, node_resources={"CPU": 3})
    engine.ended("b.1")
    theirs.stdin.close()
    theirs.wait(30)
    until(
        lambda: engine.capacity(bed.cluster(node_resources={"CPU": 3})).idle == 3, "what others gave back was not seen"
    )


def test_cancel_reaches_the_agents_with_its_reason(engine: RayEngine, bed: RayBed, link: Link) -> None:
    begin(engine, bed, link, "a")
    engine.cancel("a.1", CANCEL)
    assert link.stopped == [("a.1.0", "a", 1, CANCEL), ("a.1.1", "a", 1, CANCEL)]


def test_what_can_never_fit_is_refused_with_figures(engine: RayEngine, bed: RayBed) -> None:
    [words] = engine.unsupported(job_of("a", bed.cluster(max_nodes=9, node_resources={"CPU": 3}), 4)).values()
    assert "node_count=4: of the 4 machines of the Ray cluster" in words and "3 could ever give a node (CPU 3)" in words
    [words] = engine.unsupported(job_of("a", bed.cluster(node_resources={"CPU": 1, "GPU": 4}), 1)).values()
    assert "0 could ever give a node (CPU 1, GPU 4)" in words
    assert engine.unsupported(job_of("a", bed.cluster(), 3)) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "198.18.0.1:1"}, "No Ray cluster answers at 198.18.0.1:1"),
        ({"address": "ray://head:10001"}, "HOST:6379"),
        ({"address": "head"}, "must be HOST:PORT"),
        ({"adress": "x"}, "'adress' is no option"),
        ({"agent_python": "/nowhere/python"}, "/nowhere/python -m windlassd.agent --facts` failed"),
        ({"python": "/nowhere/python"}, "/nowhere/python cannot be started"),
    ],
)
def test_what_cannot_be_attached_is_said(bed: RayBed, link: Link, options: dict[str, str], words: str) -> None:
    engine = RayEngine(link)
    try:
        with pytest.raises(ComputeTargetException, match=words.replace("(", r"\(")):
            engine.adopt(bed.cluster(options=options))
        assert engine._clusters == {}
    finally:
        engine.close()


def test_an_interpreter_without_ray_is_named(bed: RayBed, link: Link) -> None:
    engine = RayEngine(link)
    try:
        with pytest.raises(ComputeTargetException, match=f"{sys.executable} has no Ray"):
            engine.adopt(bed.cluster(options={"python": bed.driver_python(python=f"{sys.executable} -S")}))
    finally:
        engine.close()


@pytest.mark.parametrize("token", ["wrong-token-of-somebody", None])
def test_a_wrong_token_is_said_and_not_shown(bed: RayBed, token: str | None, caplog: pytest.LogCaptureFixture) -> None:
    engine = RayEngine(Link(secrets={"three": token} if token else {}))
    try:
        with pytest.raises(ComputeTargetException, match="does not let this server in") as refused:
            engine.adopt(bed.cluster())
        assert "wrong-token" not in refused.value.message + caplog.text
    finally:
        engine.close()


def test_a_server_beside_the_cluster_joins_it_with_nothing_to_give(bed: RayBed, link: Link) -> None:
    [server] = bed.network.start("server-machine")
    engine = RayEngine(link)
    try:
        cluster = bed.cluster(options={"python": bed.driver_python(server)})
        engine.adopt(cluster)
        assert engine.capacity(cluster).idle == 3
        assert engine.target(cluster) is not None
    finally:
        engine.close()
    server.kill()


def test_nothing_of_the_token_is_written_where_others_look(bed: RayBed, engine: RayEngine) -> None:
    for machine in (bed.head, *bed.workers):
        commands = " ".join(command(p) for p in machine.processes())
        assert TOKEN not in commands
    assert TOKEN not in str(replace(bed.cluster())) + str(engine.plan(job_of("a", bed.cluster())))
