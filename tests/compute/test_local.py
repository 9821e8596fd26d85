"""This machine as an engine: against the suite with a double for the agents, and inside a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from windlass._transport.autostart import is_running
from windlass.errors import ComputeTargetException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.status import RunStatus
from windlassd.compute.base import Feature
from windlassd.compute.local import AGENT, LocalEngine
from windlassd.testing.engine_suite import CANCEL, EngineConformance, RecordingLink, job_of
from windlassd.testing.harness import Workspace

CLUSTER = ClusterSpec("c", max_nodes=4)
ONE_GPU = ClusterSpec("gpu", max_nodes=4, vm_size="STANDARD_NC6")
CORES = os.cpu_count() or 1


@pytest.fixture
def link() -> RecordingLink:
    return RecordingLink()


class TestLocalEngine(EngineConformance):
    @pytest.fixture
    def engine(self, link: RecordingLink) -> LocalEngine:
        return LocalEngine(link, gpus=())

    def test_every_node_of_the_gang_gets_its_part(self, engine: LocalEngine, link: RecordingLink) -> None:
        self.submit(engine, job_of("a", CLUSTER, 3))
        assert [agent for agent, _ in link.started] == [AGENT] * 3 and link.ensured == [AGENT]
        assert [(part.node, part.node_rank) for _, part in link.started] == [("c-0", 0), ("c-1", 1), ("c-2", 2)]
        assert {part.run_id for _, part in link.started} == {"a"}

    def test_what_is_not_started_is_not_told(self, engine: LocalEngine, link: RecordingLink) -> None:
        planned = engine.plan(job_of("a", CLUSTER, 4))
        engine.submit(planned)
        engine.submit(planned)
        with pytest.raises(Exception, match=r"c has 0 of 1 nodes free"):
            engine.submit(engine.plan(job_of("b", CLUSTER)))
        assert len(link.started) == 4

    def test_cancel_tells_the_agent_with_the_reason(self, engine: LocalEngine, link: RecordingLink) -> None:
        engine.cancel("a.1", CANCEL)
        self.submit(engine, job_of("a", CLUSTER))
        engine.cancel("a.1", CANCEL)
        assert link.stopped == [(AGENT, "a", 1, CANCEL)]

    @pytest.mark.parametrize("started", [True, False])
    def test_reattach_passes_on_whether_it_started(
        self, engine: LocalEngine, link: RecordingLink, started: bool
    ) -> None:
        engine.reattach(job_of("a", CLUSTER, 2), ["c-1", "c-3"], started)
        assert [(part.node, told) for _, part, told in link.adopted] == [("c-1", started), ("c-3", started)]
        assert link.started == [] and link.ensured == [AGENT]

    def test_what_is_not_offered_yet_is_refused(self, engine: LocalEngine) -> None:
        found = engine.unsupported(job_of("a", CLUSTER, 2, processes=2))
        assert set(found) == {Feature.PROCESSES}

    @pytest.mark.parametrize(
        ("communicator", "launcher"),
        [("Mpi", "MPI"), ("OpenMpi", "MPI"), ("Nccl", "PyTorch"), ("ParameterServer", "TensorFlow")],
    )
    def test_several_nodes_that_need_a_launcher_are_refused_with_what_works(
        self, engine: LocalEngine, communicator: str, launcher: str
    ) -> None:
        job = job_of("a", CLUSTER, 2)
        distributed = replace(job, launch=replace(job.launch, communicator=communicator))
        words = engine.unsupported(distributed)[Feature.NODES]
        for said in ("node_count=2", repr(communicator), f"the launcher of {launcher}", "AZ_BATCHAI_TASK_INDEX"):
            assert said in words
        assert engine.unsupported(job) == {} and engine.unsupported(replace(distributed, node_count=1)) == {}

    def test_the_plan_says_what_would_run(self, engine: LocalEngine) -> None:
        text = str(engine.plan(job_of("a", ONE_GPU)))
        assert "take 1 of 4 slots of 'gpu'" in text and "up to 1 GPU(s)" in text
        assert text.endswith("start /usr/bin/python3 train.py --rate 0.1")


def test_cores_are_shared_by_the_busy_slots(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=())
    for name in ("a", "b", "c", "d"):
        engine.submit(engine.plan(job_of(name, CLUSTER)))
    threads = [part.node_variables["OMP_NUM_THREADS"] for _, part in link.started]
    assert threads == [str(max(1, CORES // busy)) for busy in (1, 2, 3, 4)]
    engine.ended("a.1")
    engine.ended("b.1")
    engine.ended("c.1")
    engine.submit(engine.plan(job_of("e", CLUSTER)))
    assert link.started[-1][1].node_variables["OMP_NUM_THREADS"] == str(max(1, CORES // 2))


def visible(link: RecordingLink, place: int = -1) -> str | None:
    return link.started[place][1].node_variables.get("CUDA_VISIBLE_DEVICES")


def notes(engine: LocalEngine, native_id: str) -> list[str]:
    return list(engine.poll([native_id])[native_id].notes)


def test_each_job_sees_its_own_gpus(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=range(3))
    two = replace(ONE_GPU, name="two", vm_size="STANDARD_NC12")
    engine.submit(engine.plan(job_of("a", two)))
    engine.submit(engine.plan(job_of("b", ONE_GPU)))
    assert (visible(link, 0), visible(link, 1)) == ("0,1", "2")
    engine.submit(engine.plan(job_of("c", ONE_GPU)))
    assert visible(link) == "0" and notes(engine, "c.1") == ["It shares GPU 0 with other runs."]
    engine.ended("b.1")
    engine.submit(engine.plan(job_of("d", ONE_GPU)))
    assert visible(link) == "2" and notes(engine, "d.1") == []


def test_each_node_of_a_gang_sees_its_own_gpus_and_gives_them_back(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=range(3))
    engine.submit(engine.plan(job_of("a", ONE_GPU, 2)))
    assert (visible(link, 0), visible(link, 1)) == ("0", "1") and notes(engine, "a.1") == []
    engine.submit(engine.plan(job_of("b", ONE_GPU, 2)))
    assert (visible(link, 2), visible(link, 3)) == ("2", "0")
    assert notes(engine, "b.1") == ["gpu-3: It shares GPU 0 with other runs."]
    engine.ended("a.1")
    engine.submit(engine.plan(job_of("c", ONE_GPU)))
    assert visible(link) == "1"


def test_a_gpu_that_is_not_there_is_noted_and_the_variable_left_alone(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=())
    engine.submit(engine.plan(job_of("a", ONE_GPU)))
    assert visible(link) is None
    assert notes(engine, "a.1") == ["1 GPU was asked for, and this machine has none: it runs on the CPU."]


def test_a_size_without_gpus_sees_none(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=range(2))
    engine.submit(engine.plan(job_of("a", replace(CLUSTER, vm_size="STANDARD_D2_V2"))))
    assert visible(link) == ""


def test_without_a_size_a_job_gets_one_gpu_where_there_are_any(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=range(2))
    engine.submit(engine.plan(job_of("a", CLUSTER)))
    assert visible(link) == "0"
    bare = LocalEngine(link, gpus=())
    bare.submit(bare.plan(job_of("b", CLUSTER)))
    assert visible(link) is None and notes(bare, "b.1") == []


def test_a_size_of_the_workspaces_own_says_its_gpus(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=(0, 1, 2))
    engine.submit(engine.plan(job_of("a", ClusterSpec("box", vm_size="BOX", gpus=2))))
    assert link.started[0][1].node_variables["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_gpus_are_held_again_after_a_restart(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=range(2))
    engine.reattach(job_of("a", ONE_GPU), ["gpu-0"], True)
    engine.submit(engine.plan(job_of("b", ONE_GPU)))
    assert visible(link) == "1"


def test_after_a_restart_a_job_has_the_gpus_that_it_uses_and_nobody_gets_them_as_well(link: RecordingLink) -> None:
    before = LocalEngine(link, gpus=range(3))
    for run_id in ("ended", "going"):
        before.submit(before.plan(job_of(run_id, ONE_GPU)))
    before.ended("ended.1")
    state = before.poll(["going.1"])["going.1"]
    assert state.gpus == {"gpu-1": [1]}
    assert next((n.name, n.gpus) for n in before.nodes(ONE_GPU)) == ("gpu-1", (1,))
    engine = LocalEngine(link, gpus=range(3))
    engine.reattach(replace(job_of("going", ONE_GPU), gpus=state.gpus), state.nodes, True)
    for run_id in ("b", "c"):
        engine.submit(engine.plan(job_of(run_id, ONE_GPU)))
    assert (visible(link, -2), visible(link)) == ("0", "2")


def test_a_gang_gets_gpus_for_each_node(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=range(3))
    engine.submit(engine.plan(job_of("a", ONE_GPU, 2)))
    assert (visible(link, 0), visible(link, 1)) == ("0", "1")
    assert engine.poll(["a.1"])["a.1"].gpus == {"gpu-0": [0], "gpu-1": [1]}


@pytest.mark.parametrize(
    ("cluster", "gpus", "says"),
    [
        (CLUSTER, (), "1 GPU was asked for, and this machine has none: it runs on the CPU."),
        (replace(CLUSTER, vm_size="STANDARD_D2_V2"), (0,), "a STANDARD_D2_V2 has none: it runs on the CPU."),
        (CLUSTER, (0,), ""),
    ],
)  # fmt: skip
def test_who_asks_for_a_gpu_in_so_many_words_is_told_where_there_is_none(
    link: RecordingLink, cluster: ClusterSpec, gpus: tuple[int, ...], says: str
) -> None:
    engine = LocalEngine(link, gpus=gpus)
    engine.submit(engine.plan(replace(job_of("a", cluster), wants_gpu=True)))
    assert " ".join(notes(engine, "a.1")).endswith(says) and bool(notes(engine, "a.1")) is bool(says)


def test_options_that_slots_do_not_have_are_refused(link: RecordingLink) -> None:
    engine = LocalEngine(link, gpus=())
    engine.adopt(CLUSTER)
    for wrong in (replace(CLUSTER, node_resources={"CPU": 2}), replace(CLUSTER, options={"address": "10.0.0.1"})):
        with pytest.raises(ComputeTargetException, match=r"'local' takes none.*Leave it out"):
            engine.adopt(wrong)


class TestInARealServer:
    @pytest.fixture
    def workspace(self, home: Path) -> Iterator[Workspace]:
        made = Workspace()
        yield made
        if is_running(made.dir):
            made.stop()
        made.client.close()

    def test_three_jobs_on_two_slots(self, workspace: Workspace) -> None:
        workspace.client.put("/v1/computes/two", {"name": "two", "max_nodes": 2})
        text = """
            import os, signal
            print("threads", os.environ["OMP_NUM_THREADS"], os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
            signal.pause()
        """
        ids = [workspace.submit(text, target="two") for _ in range(2)]
        for run_id in ids:
            workspace.wait_for_text(run_id, "threads")
        assert sorted(node for run_id in ids for node in workspace.get(run_id).nodes) == ["two-0", "two-1"]
        last = workspace.submit("print('last')", target="two")
        workspace.wait_for(last, lambda run: run.status is RunStatus.QUEUED)
        there = workspace.client.get("/v1/computes/two")
        capacity = there["capacity"]
        assert (capacity["target"], capacity["idle"], capacity["busy"], there["waiting"]) == (2, 0, 2, 1)
        workspace.client.post(f"/v1/runs/{ids[0]}/cancel")
        assert workspace.wait(last).status is RunStatus.COMPLETED
        assert workspace.get(last).nodes == workspace.get(ids[0]).nodes
