"""Interactive runs and children with real processes: what a client logs is kept, however it or the server ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from windlass import Environment, Experiment, Run, ScriptRunConfig, replay_offline_run
from windlass import Workspace as UserWorkspace
from windlass.errors import NotOffered, RunEnvironmentException, UserErrorException
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace, kill


@pytest.fixture
def experiment(shared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    shared.client.get("/v1/server")
    return Experiment(UserWorkspace.get("test"), "notebook")


class Client:
    """A client process that prints the id of the run it began, then does ``script`` and waits."""

    def __init__(self, folder: Path, script: str, workspace: str = "test") -> None:
        begin = f"""
            import os, signal, sys
            from azureml.core import Experiment, Workspace
            run = Experiment(Workspace.get({workspace!r}), "notebook").start_logging(snapshot_directory=None)
            """
        text = textwrap.dedent(begin) + textwrap.dedent(script) + "\nprint(run.id, flush=True)\nsignal.pause()\n"
        self.process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, cwd=folder, text=True)
        assert self.process.stdout is not None
        self.run_id = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def history(workspace: Workspace, run_id: str) -> list[str]:
    return [entry["status"] for entry in workspace.get(run_id).history]


def test_a_notebook_run_from_start_to_end(experiment: Experiment, shared: Workspace, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/old.txt").write_text("of an earlier run")
    os.utime(tmp_path / "outputs/old.txt", (1.0, 1.0))
    run = experiment.start_logging(display_name="first try")
    assert (run.status, run.type, run.display_name, len(run.id)) == ("Running", None, "first try", 36)
    assert (tmp_path / "logs").is_dir()
    (tmp_path / "outputs/model.txt").write_text("weights")
    assert run.get_file_names() == ["outputs/model.txt"], "seen while it goes"
    for value in range(5):
        run.log("loss", value)
    run.log_table("wide", {"x": list(range(100_000))})
    assert run.get_metrics("loss") == {"loss": [0, 1, 2, 3, 4]}
    run.complete()
    assert run.status == "Completed" and history(shared, run.id)[-1] == "Completed"
    assert run.get_file_names() == ["outputs/model.txt"], "what an earlier run left is not this one's"
    assert len(run.get_metrics()["wide"]["x"]) == 100_000
    assert (tmp_path / "outputs/old.txt").exists() and (tmp_path / "outputs/model.txt").exists()
    restored = run.restore_snapshot(path=str(tmp_path / "back"))
    assert (Path(restored) / "train.py").read_text() == "print(1)\n"
    assert run.wait_for_completion().status == "Completed"
    with pytest.raises(RunEnvironmentException, match=r"after the run .* was ended"):
        run.log("loss", 6)


def test_options_of_start_logging(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotOffered, match="color"):
        experiment.start_logging(color="red")
    with pytest.raises(UserErrorException, match="by name"):
        experiment.start_logging("first try")
    with pytest.raises(UserErrorException, match="does not exist"):
        experiment.start_logging(snapshot_directory="nowhere")
    with experiment.start_logging(snapshot_directory=None, outputs="results") as run:
        (tmp_path / "results/a.txt").write_text("a")
    assert run.get_file_names() == ["results/a.txt"] and not (tmp_path / "outputs").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.warns(UserWarning, match="No snapshot of the working folder"):
        run = experiment.start_logging()
    run.complete()
    assert run.get_snapshot_id() is None


def test_it_fails_with_its_reason(experiment: Experiment) -> None:
    run = experiment.start_logging(snapshot_directory=None)
    run.fail("the data were wrong", "bad_data")
    assert run.get_details()["error"]["error"]["message"] == "the data were wrong"
    assert run.get_details().error.error.code == "bad_data"
    with pytest.raises(ZeroDivisionError), experiment.start_logging(snapshot_directory=None) as other:
        _ = 1 / 0
    assert other.get_details().error.error.message == "ZeroDivisionError: division by zero"
    canceled = experiment.start_logging(snapshot_directory=None)
    canceled.log("x", 1)
    canceled.cancel()
    assert (canceled.status, canceled.get_metrics()) == ("Canceled", {"x": 1})
    with pytest.raises(UserErrorException, match="over"):
        Run.get(experiment.workspace, canceled.id).start()


def test_a_run_that_was_canceled_from_outside_is_over(
    experiment: Experiment, shared: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    run = experiment.start_logging(snapshot_directory=None)
    run.log("x", 1)
    run.flush()
    shared.client.post(f"/v1/runs/{run.id}/cancel")
    run.log("x", 2)
    run.complete()
    assert run.status == "Canceled" and run.get_metrics() == {"x": 1}
    assert "ended from outside" in capfd.readouterr().err


def test_children(experiment: Experiment, shared: Workspace) -> None:
    with experiment.start_logging(snapshot_directory=None) as run:
        with run.child_run("kid") as kid:
            kid.log("loss", 1)
            with kid.child_run() as grandchild:
                grandchild.log("loss", 2)
        for child in run.create_children(tag_key="fold", tag_values=["a", "b"]):
            child.log("fold_loss", 3)
            child.complete()
        run.log("loss", 0)
    assert kid.id == run.id + "_0" and grandchild.id == run.id + "_0_0" and kid.display_name == "kid"
    assert kid.parent == run and run.parent is None
    assert [c.id for c in run.get_children()] == [f"{run.id}_{n}" for n in (2, 1, 0)]
    assert [c.tags for c in run.get_children(tags={"fold": "b"})] == [{"fold": "b"}]
    assert grandchild in list(run.get_children(recursive=True, status="Completed"))
    assert run.get_metrics(recursive=True) == {"loss": [0, 2, 1], "fold_loss": [3, 3]}
    assert next(iter(experiment.get_runs())) == run
    assert len(list(experiment.get_runs(include_children=True))) >= 5
    assert list(run.get_children(type="azureml.scriptrun")) == []
    with pytest.raises(UserErrorException, match="already"):
        run.child_run(run_id=kid.id)


def test_a_killed_client_leaves_a_failed_run_with_all_it_logged(shared: Workspace, tmp_path: Path) -> None:
    shared.client.get("/v1/server")
    client = Client(
        tmp_path,
        """
        child = run.child_run()
        child.log("x", 1)
        for value in range(2000):
            run.log("loss", value)
        open("outputs/model.txt", "w").write("weights")
        """,
    )
    client.kill()
    run = shared.wait(client.run_id)
    assert (run.status, run.reason.code) == (RunStatus.FAILED, "client_process_ended")
    assert "client process ended" in run.reason.message
    assert history(shared, run.id)[1:3] == ["Running", "NotResponding"]
    assert shared.values(run.id, "loss") == list(range(2000))
    assert shared.read(run.id, "outputs/model.txt") == b"weights"
    assert shared.wait(run.id + "_0").status is RunStatus.FAILED and shared.values(run.id + "_0", "x") == [1]
    assert (tmp_path / "outputs/model.txt").exists()


def test_another_process_takes_a_child_over(experiment: Experiment, shared: Workspace, tmp_path: Path) -> None:
    client = Client(tmp_path, "run.create_children(count=1)")
    child = Run.get(experiment.workspace, client.run_id + "_0")
    child.start()
    child.log("x", 1)
    client.kill()
    assert shared.wait(client.run_id).status is RunStatus.FAILED
    child.log("x", 2)
    child.complete()
    assert (child.status, child.get_metrics()) == ("Completed", {"x": [1, 2]})


def test_the_server_may_be_killed_meanwhile(workspace: Workspace, tmp_path: Path) -> None:
    workspace.client.get("/v1/server")
    client = Client(tmp_path, 'run.log("before", 1)')
    kill(workspace.server_pid())
    assert workspace.get(client.run_id).status is RunStatus.RUNNING
    pid = workspace.server_pid()
    client.kill()
    assert workspace.wait(client.run_id).status is RunStatus.FAILED
    assert workspace.values(client.run_id, "before") == [1] and workspace.server_pid() == pid


@pytest.mark.faults
def test_a_client_that_died_with_the_server_is_found_at_the_next_start(workspace: Workspace, tmp_path: Path) -> None:
    workspace.client.get("/v1/server")
    client = Client(tmp_path, 'run.log("x", 5)')
    agent, server = workspace.agent_pid(), workspace.server_pid()
    kill(agent)
    os.kill(client.process.pid, signal.SIGSTOP)
    kill(server)
    client.kill()
    run = workspace.wait(client.run_id)
    assert (run.status, run.reason.code) == (RunStatus.FAILED, "client_process_ended")
    assert workspace.values(client.run_id, "x") == [5]


def test_a_forked_child_does_not_keep_a_dead_client_alive(shared: Workspace, tmp_path: Path) -> None:
    shared.client.get("/v1/server")
    client = Client(
        tmp_path,
        """
        run.log("x", 1)
        run.flush()
        reader, writer = os.pipe()
        if os.fork() == 0:
            run.log("x", 2)
            os.close(1)
            os.write(writer, b"1")
            signal.pause()
        os.read(reader, 1)
        """,
    )
    client.kill()
    assert shared.wait(client.run_id).status is RunStatus.FAILED
    assert sorted(shared.values(client.run_id, "x")) == [1, 2]


def test_a_script_has_children_and_may_fail_its_run(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        from azureml.core import Run
        run = Run.get_context()
        with run.child_run("fold 0") as child:
            child.log("loss", 0.5)
        lost = run.child_run("never completed")
        lost.log("loss", 1.5)
        run.fail("not good enough", "quality")
        """
    )
    run = shared.wait(run_id)
    assert (run.status, run.reason.code, run.reason.message) == (RunStatus.FAILED, "quality", "not good enough")
    assert shared.wait(run_id + "_0").status is RunStatus.COMPLETED
    assert shared.values(run_id + "_0", "loss") == [0.5]
    assert shared.wait(run_id + "_1").reason.code == "client_process_ended"
    assert shared.values(run_id + "_1", "loss") == [1.5]
    children = shared.client.get("/v1/runs", parent=run_id)["runs"]
    assert [RunRecord.from_wire(c).parent_id for c in children] == [run_id, run_id]
    assert run_id + "_0" not in [r["id"] for r in shared.client.get("/v1/runs")["runs"]]


def test_a_job_is_submitted_as_a_child(experiment: Experiment, shared: Workspace, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("from azureml.core import Run\nRun.get_context().log('x', 1)\n")
    environment = Environment("mine")
    environment.python.user_managed_dependencies = True
    with experiment.start_logging(snapshot_directory=None, outputs=False) as run:
        job = ScriptRunConfig(str(tmp_path / "src"), script="train.py", environment=environment)
        child = run.submit_child(job, tags={"kind": "job"})
        assert child.wait_for_completion().status == "Completed"
    assert (child.id, child.parent, child.type) == (run.id + "_0", run, "azureml.scriptrun")
    assert list(run.get_children(type="azureml.scriptrun", tags="kind")) == [child]
    assert run.get_metrics(recursive=True) == {"x": 1}
    assert not (tmp_path / "outputs").exists()


def test_snapshots_are_taken_and_restored(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("a")
    with experiment.start_logging(snapshot_directory=None) as run:
        assert run.get_snapshot_id() is None
        with pytest.raises(UserErrorException, match="has no snapshot"):
            run.restore_snapshot()
        taken = run.take_snapshot(str(tmp_path / "code"))
        assert run.get_snapshot_id() == taken
        assert run.take_snapshot(str(tmp_path / "code/a.py")) == taken, "the same content"
    archive = run.restore_snapshot(path=str(tmp_path / "back.zip"))
    assert zipfile.ZipFile(archive).namelist() == ["a.py"]


def test_an_offline_run_is_replayed(experiment: Experiment, shared: Workspace) -> None:
    offline = Run.get_context()
    offline.log("loss", 0.5)
    offline.log("loss", float("nan"))
    offline.log_table("wide", {"x": [1, 2]})
    offline.log_residuals("res", {"data": {"bin_edges": [1, 2], "bin_counts": [5]}})
    offline.tag("kind", "laptop")
    offline.child_run("kid").log("z", 1)
    offline.fail("too slow")
    run = replay_offline_run(experiment.workspace, experiment, offline.id)
    metrics = run.get_metrics(recursive=True, populate=True)
    loss = metrics.pop("loss")
    assert loss[0] == 0.5 and loss[1] != loss[1]
    assert metrics == {"wide": {"x": [1, 2]}, "res": {"data": {"bin_edges": [1, 2], "bin_counts": [5]}}, "z": 1}
    assert (run.status, run.tags, run.experiment) == ("Failed", {"kind": "laptop"}, experiment)
    assert run.get_details().error.error.message == "too slow"
    assert run.properties["windlass.offline_run"] == offline.id
    (child,) = run.get_children()
    assert (child.display_name, child.status) == ("kid", "Completed")
    logged = shared.client.get(f"/v1/runs/{run.id}/metrics")["metrics"]["loss"]["times"]
    assert logged[0] < shared.get(run.id).created, "points keep their times"
    with pytest.raises(UserErrorException, match=f"already, as {run.id}"):
        replay_offline_run(experiment.workspace, experiment, offline.id)
    with pytest.raises(UserErrorException, match="no offline run"):
        replay_offline_run(experiment.workspace, experiment, "OfflineRun_x")
