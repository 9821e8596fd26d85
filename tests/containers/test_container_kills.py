"""SIGKILL each part of a run in a container: it ends as a plain one would, says why, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers.jobs import Jobs, jobs, parent_of, process_of, workspace_on
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing import container_engines
from windlassd.testing.container_engines import Bases
from windlassd.testing.harness import TRAINS_UNTIL_TOLD, WAIT_S, kill

__all__ = ["jobs"]
pytestmark = pytest.mark.containers


def script(run_id: str) -> int:
    return process_of(run_id, "train.py")


def first_process(run_id: str) -> int:
    return process_of(run_id, "init.py")


def holder(run_id: str) -> int:
    return process_of(run_id, "holder.py")


def keeper(run_id: str) -> int:
    return parent_of(holder(run_id))


def nursery(run_id: str) -> int:
    return parent_of(keeper(run_id))


def begun(workspace: Jobs, target: str = "local") -> str:
    """A run that has logged 200 points and waits for SIGUSR1 to log 200 more."""
    run_id = workspace.submit(TRAINS_UNTIL_TOLD, target=target)
    workspace.wait_for_text(run_id, "trained")
    return run_id


def assert_kept(workspace: Jobs, run_id: str, points: int = 200) -> None:
    """Every point once and in order, the output and the log; and no process, mount or container."""
    assert workspace.values(run_id, "loss") == list(range(points))
    assert workspace.read(run_id, "outputs/checkpoint.txt") == b"kept"
    assert workspace.log(run_id).startswith("trained\n")
    workspace.assert_nothing_left(run_id)


@pytest.mark.parametrize(
    ("victims", "reason", "words"),
    [
        ([script], "signal", "SIGKILL"),
        ([first_process], "container_lost", "ended from outside Windlass"),
        ([holder], "keeper_lost", "looked after the run's container"),
        ([keeper], "keeper_lost", "looked after the run"),
        ([holder, keeper], "keeper_lost", "looked after the run"),
    ],
    ids=["script", "first process", "holder", "keeper", "holder and keeper"],
)
def test_kill(jobs: Jobs, victims: list[Callable[[str], int]], reason: str, words: str) -> None:
    run_id = begun(jobs)
    for pid in [victim(run_id) for victim in victims]:
        kill(pid)
    run = jobs.wait(run_id)
    assert run.status is RunStatus.FAILED and run.reason is not None
    assert run.reason.code == reason and words in run.reason.message
    assert_kept(jobs, run_id)
    assert jobs.wait(jobs.submit("print('next')")).status is RunStatus.COMPLETED


@pytest.fixture
def on_podman(home: Path, podman: str, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """An empty workspace on the tests' Podman."""
    yield from workspace_on(podman, bases, monkeypatch)


@pytest.mark.parametrize(
    ("victim", "reason"), [(script, "signal"), (first_process, "container_lost"), (holder, "keeper_lost")]
)
def test_kill_on_podman(on_podman: Jobs, victim: Callable[[str], int], reason: str) -> None:
    run_id = begun(on_podman)
    kill(victim(run_id))
    run = on_podman.wait(run_id)
    assert run.reason is not None and run.reason.code == reason, run.reason
    assert_kept(on_podman, run_id)


def test_kill_the_nursery(jobs: Jobs) -> None:
    run_id = begun(jobs)
    kill(nursery(run_id))
    os.kill(script(run_id), signal.SIGUSR1)
    assert jobs.wait(run_id).status is RunStatus.COMPLETED
    assert_kept(jobs, run_id, 400)


@pytest.mark.parametrize("also", ["", "keeper", "server"])
def test_kill_the_agent(jobs: Jobs, also: str) -> None:
    run_id = begun(jobs)
    pids = {"": [], "keeper": [keeper(run_id)], "server": [jobs.server_pid()]}[also] + [jobs.agent_pid()]
    for pid in pids:
        kill(pid)
    run = jobs.wait(run_id)
    assert run.status is RunStatus.FAILED and run.reason is not None and run.reason.code == "agent_lost"
    assert_kept(jobs, run_id)


def test_kill_the_server(jobs: Jobs) -> None:
    run_id = begun(jobs)
    kill(jobs.server_pid())
    os.kill(script(run_id), signal.SIGUSR1)
    assert jobs.wait(run_id).status is RunStatus.COMPLETED
    assert jobs.log(run_id) == "trained\ndone\n"
    assert_kept(jobs, run_id, 400)


def test_a_queued_run_keeps_its_container_over_a_new_server(jobs: Jobs) -> None:
    jobs.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    first = jobs.submit("import time; print('up'); time.sleep(1000)", target="small")
    jobs.wait_for_text(first, "up")
    second = jobs.submit("import os; print(os.getpid())", target="small")
    jobs.wait_for(second, lambda run: run.status is RunStatus.QUEUED)
    kill(jobs.server_pid())
    jobs.client.post(f"/v1/runs/{first}/cancel", {})
    assert jobs.wait(second).status is RunStatus.COMPLETED
    assert int(jobs.log(second)) < 100, "the ids of processes in a container are small"


@pytest.mark.parametrize("how", ["kill", "stop?t=1", ""], ids=["docker kill", "docker stop", "docker rm -f"])
def test_somebody_ends_the_container(jobs: Jobs, how: str) -> None:
    from windlassd.agent import holder as engine

    run_id = begun(jobs)
    method, tail = ("POST", f"/{how}") if how else ("DELETE", "?force=1")
    with contextlib.suppress(engine.EngineError):
        engine.call(jobs.engine, method, f"/containers{jobs.containers(run_id)[0]}{tail}")
    run = jobs.wait(run_id)
    assert run.reason is not None
    assert run.reason.code == ("container_stopped" if "stop" in how else "container_lost"), run.reason
    assert_kept(jobs, run_id)


@pytest.mark.parametrize("ignores", [False, True], ids=["obeys", "ignores SIGTERM"])
def test_cancel(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, ignores: bool) -> None:
    monkeypatch.setenv("WINDLASS_STOP_GRACE_S", "1")
    run_id = jobs.submit(
        f"""
        import signal, sys, time
        if {ignores}:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(1)))
        print("up", flush=True)
        time.sleep(1000)
        """
    )
    jobs.wait_for_text(run_id, "up")
    jobs.client.post(f"/v1/runs/{run_id}/cancel", {})
    assert jobs.wait(run_id).status is RunStatus.CANCELED
    assert jobs.log(run_id) == ("up\n" if ignores else "up\nsaved\n")
    jobs.assert_nothing_left(run_id)


def test_a_time_limit(jobs: Jobs) -> None:
    run_id = jobs.submit("import time; time.sleep(1000)", max_run_duration_s=1)
    run = jobs.wait(run_id)
    assert run.reason is not None and run.reason.code == "time_limit"
    jobs.assert_nothing_left(run_id)


@pytest.mark.parametrize(
    "reached",
    [
        lambda run: True,
        lambda run: bool(run.environment),
        lambda run: bool(run.nodes),
        lambda run: run.status is RunStatus.RUNNING,
    ],
    ids=["submitted", "environment", "node", "running"],
)
def test_canceled_at_any_moment_of_its_start(jobs: Jobs, reached: Callable[[RunRecord], bool]) -> None:
    canceled = []
    for _ in range(3):
        run_id = jobs.submit("import time; time.sleep(1000)")
        jobs.wait_for(run_id, reached)
        jobs.client.post(f"/v1/runs/{run_id}/cancel", {})
        canceled.append(run_id)
    for run_id in canceled:
        assert jobs.wait(run_id).status is RunStatus.CANCELED
        jobs.assert_nothing_left(run_id)


class Daemon:
    """A Docker daemon that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()

    def start(self) -> str:
        """Its address, once it answers."""
        return self._stack.enter_context(container_engines.docker(self.folder))

    def kill(self) -> None:
        """SIGKILL it, and wait until its containerd has ended with it: a new daemon would take that for alive."""
        daemon, containerd = (
            int((self.folder / path).read_text()) for path in ("pid", "exec/containerd/containerd.pid")
        )
        end = os.pidfd_open(containerd)
        kill(daemon)
        os.waitpid(daemon, 0)
        select.select([end], [], [], WAIT_S)
        os.close(end)

    def close(self) -> None:
        """End it, and with it what it keeps."""
        self._stack.close()


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of the test's own, not started yet."""
    made = Daemon(tmp_path_factory.mktemp("own"))
    yield made
    made.close()


@pytest.fixture
def on_own(home: Path, daemon: Daemon, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """A workspace on a daemon of the test's own."""
    yield from workspace_on(daemon.start(), bases, monkeypatch)


def test_kill_the_engine(on_own: Jobs, daemon: Daemon) -> None:
    on_own.client.put("/v1/computes/wide", {"name": "wide", "max_nodes": 3})
    run_id, canceled, killed = (begun(on_own, "wide") for _ in range(3))
    daemon.kill()
    os.kill(script(run_id), signal.SIGUSR1)
    assert on_own.wait(run_id).status is RunStatus.COMPLETED, "it goes on without its engine"
    on_own.client.post(f"/v1/runs/{canceled}/cancel", {})
    assert on_own.wait(canceled).status is RunStatus.CANCELED
    kill(holder(killed))
    assert on_own.wait(killed).status is RunStatus.FAILED
    assert [processes_of(r) for r in (run_id, canceled, killed)] == [[], [], []]
    daemon.start()
    for each, points in ((run_id, 400), (canceled, 200), (killed, 200)):
        assert_kept(on_own, each, points)
    assert on_own.wait(on_own.submit("print('next')")).status is RunStatus.COMPLETED


def test_the_engine_comes_back_under_a_run(on_own: Jobs, daemon: Daemon) -> None:
    run_id = begun(on_own)
    daemon.kill()
    daemon.start()  # it stops what it finds
    run = on_own.wait(run_id)
    assert run.reason is not None and run.reason.code in ("container_stopped", "container_lost")
    assert "restarted" in run.reason.message and "Submit it again" in run.reason.message
    assert_kept(on_own, run_id)


def test_an_engine_that_is_down_is_told(on_own: Jobs, daemon: Daemon) -> None:
    on_own.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    first = on_own.plain("import time; time.sleep(1000)", target="small")
    on_own.wait_for(first, lambda run: run.status is RunStatus.RUNNING)
    waiting = on_own.submit("print('ran')", target="small")
    on_own.wait_for(waiting, lambda run: run.status is RunStatus.QUEUED)
    daemon.kill()
    on_own.client.post(f"/v1/runs/{first}/cancel", {})
    run = on_own.wait(waiting)
    assert run.reason is not None and run.reason.code == "engine_down" and "does not answer" in run.reason.message
