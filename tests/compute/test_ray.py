"""The engine for Ray with a driver that only pretends; what Ray itself does is tested under ``tests/ray``."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import ComputeTargetException
from windlass.specs.cluster import ClusterSpec
from windlassd.compute import _ray_slots as slots
from windlassd.compute.base import Engine, Feature, JobSpec, JobState, NoCapacity, Phase
from windlassd.compute.ray import RayEngine, need_of
from windlassd.testing.engine_suite import CANCEL, EngineConformance, RecordingLink, job_of

_FAKE = Path(__file__).with_name("fake_ray_driver.py")


@dataclass
class Link(RecordingLink):
    """Also wakes who waits for a change."""

    woken: threading.Condition = field(default_factory=threading.Condition)

    def changed(self, engine: str) -> None:
        super().changed(engine)
        with self.woken:
            self.woken.notify_all()

    def wait(self, reached: Callable[[], object]) -> None:
        with self.woken:
            assert self.woken.wait_for(reached, 30), "it did not come so"


class Driver:
    """What the pretending driver is told to do, and was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "python"
        script = folder / "driver.py"
        script.symlink_to(_FAKE)
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "{script}"\n')
        self.python.chmod(0o755)

    def say(self, *lines: Any) -> None:
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (self.folder / "new").write_text(text)
        os.rename(self.folder / "new", self.folder / "say")

    def set(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def orders(self, do: str) -> list[dict[str, Any]]:
        path = self.folder / "orders"
        lines = path.read_text().splitlines() if path.exists() else []
        return [order for line in lines if (order := json.loads(line)).get("do") == do]

    def wait(self, do: str, count: int = 1) -> list[dict[str, Any]]:
        """The orders of a kind, once there are so many; the file tells nobody."""
        deadline = time.monotonic() + 30
        while len(self.orders(do)) < count:
            assert time.monotonic() < deadline, f"no {count} orders to {do}"
            time.sleep(0.005)
        return self.orders(do)


@pytest.fixture
def link() -> Link:
    return Link(secrets={"three": "the-token"})


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


@pytest.fixture
def cluster(driver: Driver) -> ClusterSpec:
    options = {"address": "10.0.0.1:6379", "python": str(driver.python)}
    return ClusterSpec("three", "ray", max_nodes=3, node_resources={"CPU": 1}, options=options)


@pytest.fixture
def engine(link: Link, cluster: ClusterSpec) -> Iterator[RayEngine]:
    made = RayEngine(link)
    made.adopt(cluster)
    yield made
    made.close()


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, "it did not come so"
        time.sleep(0.005)


def settled(engine: RayEngine, link: Link, job: JobSpec) -> JobState:
    native_id = engine.submit(engine.plan(job))
    link.wait(lambda: engine.poll([native_id])[native_id].phase is not Phase.PENDING)
    return engine.poll([native_id])[native_id]


class TestRayEngine(EngineConformance):
    @pytest.fixture(autouse=True)
    def remember(self, link: Link) -> None:
        self.link = link

    @pytest.fixture
    def engine(self, link: Link, cluster: ClusterSpec) -> Iterator[RayEngine]:
        made = RayEngine(link)
        made.adopt(cluster)
        yield made
        made.close()

    @pytest.fixture
    def cluster(self, driver: Driver) -> ClusterSpec:
        options = {"address": "10.0.0.1:6379", "python": str(driver.python)}
        return ClusterSpec("three", "ray", max_nodes=3, node_resources={"CPU": 1}, options=options)

    def submit(self, engine: Engine, job: JobSpec) -> str:
        native_id = super().submit(engine, job)
        self.link.wait(lambda: engine.poll([native_id])[native_id].phase is not Phase.PENDING)
        return native_id


def test_ranks_go_by_address_and_tickets_only_to_the_driver(
    engine: RayEngine, link: Link, driver: Driver, cluster: ClusterSpec
) -> None:
    state = settled(engine, link, job_of("a", cluster, 2))
    assert state.nodes == ("ray1", "ray2")
    assert [(order["bundle"], json.loads(order["ticket"])["agent"]) for order in driver.wait("start", 2)] == [
        (1, "a.1.0"),
        (0, "a.1.1"),
    ]
    assert [launch.addresses for _, launch in link.started] == [("10.0.0.1", "10.0.0.2")] * 2
    assert link.started[0][1].node_variables == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "1"}
    [connect] = driver.orders("connect")
    assert connect["token"] == "the-token" and connect["namespace"] == "windlass-00000000"
    assert "the-token" not in str(engine.plan(job_of("a", cluster)))


def test_the_plan_says_what_would_be_asked_of_ray(engine: RayEngine, cluster: ClusterSpec) -> None:
    text = str(engine.plan(job_of("a", cluster, 2)))
    assert "ask Ray at 10.0.0.1:6379 for the placement group a.1: 2 x {CPU 1}, STRICT_SPREAD" in text
    assert "named a.1#N, with num_cpus=1, num_gpus=0, max_restarts=0" in text
    assert "-m windlassd.agent --elsewhere" in text and text.endswith("start /usr/bin/python3 train.py --rate 0.1")


def test_an_agent_that_ends_badly_loses_the_job_with_its_words(
    engine: RayEngine, link: Link, driver: Driver, cluster: ClusterSpec
) -> None:
    settled(engine, link, job_of("a", cluster, 2))
    driver.say({"part": "a.1", "bundle": 0, "state": "lost", "message": "The agent ended with exit code 3"})
    link.wait(lambda: engine.poll(["a.1"])["a.1"].phase is Phase.LOST)
    assert engine.poll(["a.1"])["a.1"].message == "ray2: The agent ended with exit code 3"
    engine.ended("a.1")
    until(lambda: link.dismissed == ["a.1.0", "a.1.1"])


def test_a_driver_that_dies_is_replaced_and_told_what_holds(
    engine: RayEngine, link: Link, driver: Driver, cluster: ClusterSpec
) -> None:
    settled(engine, link, job_of("a", cluster, 2))
    driver.wait("start", 2)
    driver.set("held")
    driver.say("die")
    assert [order["job"] for order in driver.wait("claim")] == ["a.1"]
    assert len(driver.orders("place")) == 1
    link.wait(lambda: engine.capacity(cluster).idle == 1)
    assert engine.poll(["a.1"])["a.1"].phase is Phase.RUNNING and len(driver.orders("start")) == 2


def test_what_the_cluster_has_no_more_is_lost(
    engine: RayEngine, link: Link, driver: Driver, cluster: ClusterSpec
) -> None:
    engine.reattach(job_of("a", cluster, 2), ["ray1", "ray2"], True)
    assert [agent for agent, _, started in link.adopted if started] == ["a.1.0", "a.1.1"]
    link.wait(lambda: engine.poll(["a.1"])["a.1"].phase is Phase.LOST)
    assert "does not have it" in engine.poll(["a.1"])["a.1"].message


def test_while_the_head_is_away_nothing_is_free_and_in_the_end_jobs_are_lost(
    engine: RayEngine, link: Link, driver: Driver, cluster: ClusterSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(engine, link, job_of("a", cluster))
    driver.say({"away": True})
    link.wait(lambda: engine.capacity(cluster).idle == 0)
    assert engine.poll(["a.1"])["a.1"].phase is Phase.RUNNING
    with pytest.raises(NoCapacity, match=r"three has no nodes now: The head of the Ray cluster at 10\.0\.0\.1:6379"):
        engine.submit(engine.plan(job_of("b", cluster)))
    monkeypatch.setenv("WINDLASS_NODE_LOST_AFTER_S", "0.5")
    there = engine._reach(cluster)
    there._since -= 60
    assert engine.poll(["a.1"])["a.1"].phase is Phase.LOST
    driver.say({"away": False})
    link.wait(lambda: engine.poll(["a.1"])["a.1"].phase is Phase.RUNNING)


def test_an_elastic_cluster_lets_the_first_in_line_wait_in_ray_and_its_cancel_is_immediate(
    link: Link, driver: Driver, cluster: ClusterSpec
) -> None:
    driver.set("elastic")
    driver.set("slow")
    engine = RayEngine(link)
    try:
        big = ClusterSpec("three", "ray", min_nodes=2, max_nodes=9, node_resources={"CPU": 3}, options=cluster.options)
        engine.adopt(big)
        assert engine.unsupported(job_of("a", big, 5)) == {}
        native_id = engine.submit(engine.plan(job_of("a", big, 5)))
        state = engine.poll([native_id])[native_id]
        assert state.phase is Phase.PENDING and "autoscaler" in state.message
        assert engine.capacity(big).target == 5 and engine.capacity(big).idle == 0
        engine.cancel(native_id, CANCEL)
        assert engine.poll([native_id])[native_id].phase is Phase.ENDED
        driver.wait("free")
        assert driver.wait("request")[0]["bundles"] == [{"CPU": 3}] * 2
    finally:
        engine.close()


def test_a_refusal_is_the_drivers_own_words(link: Link, driver: Driver, cluster: ClusterSpec) -> None:
    driver.set("refuse", "The cluster does not let this server in.")
    engine = RayEngine(link)
    try:
        with pytest.raises(ComputeTargetException, match="does not let this server in"):
            engine.adopt(cluster)
    finally:
        engine.close()


def test_what_never_fits_is_refused_with_figures(engine: RayEngine, cluster: ClusterSpec) -> None:
    words = engine.unsupported(job_of("a", cluster, 4))[Feature.NODES]
    assert words.startswith("node_count=4: of the 3 machines of the Ray cluster at 10.0.0.1:6379, 3 could ever give")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"address": "ray://h:10001"}}, "without another|one of Ray Client"),
        ({"options": {"address": "h"}}, "must be HOST:PORT"),
        ({"options": {"address": "h:1", "pyton": "x"}}, "'pyton' is no option"),
        ({"node_resources": {"GPU": 0.5}}, "must be a whole number"),
        ({"node_resources": {"CPU": -1}}, "at least 0"),
        ({"node_resources": {"memory": 1}}, "more than memory"),
    ],
)
def test_wrong_options_are_named(link: Link, changes: dict[str, Any], words: str) -> None:
    given = {"options": {"address": "h:1"}, **changes}
    with pytest.raises(ComputeTargetException, match=words):
        RayEngine(link).adopt(ClusterSpec("c", "ray", **given))


def test_a_size_stands_for_its_cores_and_gpus() -> None:
    assert need_of(ClusterSpec("c", "ray", vm_size="STANDARD_NC12", gpus=2)) == {"CPU": 12.0, "GPU": 2.0}
    assert need_of(ClusterSpec("c", "ray")) == {"CPU": 1.0}


def test_waiting_groups_are_counted_where_they_fit_best() -> None:
    machines = [slots.RayMachine(str(n), f"m{n}", "", {"CPU": 4.0}) for n in range(2)]
    places = slots.likely_places(machines, [("0", {"CPU": 3})], {"a": (1, {"CPU": 2}), "b": (2, {"CPU": 1})})
    assert places == {"a": ["1"], "b": ["1", "0"]}
    assert machines[0].room({"CPU": 3.0}, {"CPU": 0.5}) == 2


def test_a_job_that_ray_never_gives_its_nodes_is_given_up_with_words(
    link: Link, driver: Driver, cluster: ClusterSpec
) -> None:
    driver.set("slow")
    engine = RayEngine(link, patience_s=0.0)
    try:
        engine.adopt(cluster)
        native_id = engine.submit(engine.plan(job_of("a", cluster, 2)))
        link.wait(lambda: engine.poll([native_id])[native_id].phase is Phase.LOST)
        words = engine.poll([native_id])[native_id].message
        assert words.startswith("Ray did not give it 2 machines with CPU 1 each within 0 minutes: Ray is giving it")
        assert driver.wait("free")[0]["job"] == native_id
        engine.ended(native_id)
        assert engine.capacity(cluster).idle == 3
    finally:
        engine.close()


@pytest.fixture
def head() -> Iterator[str]:
    """The address of something that answers."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"127.0.0.1:{door.getsockname()[1]}"


@pytest.mark.parametrize(
    ("there", "here", "words"),
    [
        (("2.60.0", "3.11.7"), "2.9.0", ["Ray 2.60.0 and Python 3.11.7", "has Ray 2.9.0", "`pip install ray==2.60.0`"]),
        (("2.60.0", "3.8.2"), "2.60.0", ["Ray 2.60.0 and Python 3.8.2", "an environment of Python 3.8 with"]),
        (("2.60.0", "3.11.7"), None, ["some-python has no Ray (No module named 'ray')", "Install it there"]),
    ],
)
def test_a_cluster_of_other_versions_is_refused_with_both(
    link: Link,
    cluster: ClusterSpec,
    tmp_path: Path,
    head: str,
    there: tuple[str, str],
    here: str | None,
    words: list[str],
) -> None:
    """The driver itself, with a Ray that only knows its version."""
    python = tmp_path / "some-python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    if here:
        told = json.dumps({"ray_version": there[0], "python_version": there[1]}).encode()
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "__init__.py").write_text(f"__version__ = {here!r}\n")
        client = (
            f"class GcsClient:\n def __init__(self, address): pass\n def internal_kv_get(*a, **k): return {told!r}\n"
        )
        (tmp_path / "ray" / "_raylet.py").write_text(client)
    engine = RayEngine(link)
    try:
        with pytest.raises(ComputeTargetException) as refused:
            engine.adopt(replace(cluster, options={"address": head, "python": str(python)}))
        said = refused.value.message.replace(sys.executable, "some-python")
        assert [word for word in words if word not in said] == [], said
        assert engine._clusters == {}
    finally:
        engine.close()
