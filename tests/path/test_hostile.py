"""Scripts and moments that want to break a run: each found by trying, each must end well and say why."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of
from windlass._transport.places import socket_path
from windlass.errors import AzureMLException, UserErrorException
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.blobs.room import remove_tree
from windlassd.testing.harness import Workspace


def test_outputs_turned_into_a_link_are_not_followed(shared: Workspace) -> None:
    run = shared.wait(shared.submit("import os, shutil; shutil.rmtree('outputs'); os.symlink('/etc', 'outputs')"))
    assert run.status is RunStatus.COMPLETED
    assert "outputs is a link to /etc" in run.reason.message
    assert [f for f in shared.files(run.id) if f.startswith("outputs")] == []


def test_an_upload_and_a_folder_of_one_name_are_both_kept(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os
        from azureml.core import Run
        open("one.txt", "w").write("uploaded")
        Run.get_context().upload_file("outputs/model", "one.txt")
        os.makedirs("outputs/model")
        open("outputs/model/weights.bin", "w").write("written")
        open("outputs/z.txt", "w").write("last")
        """
    )
    run = shared.wait(run_id)
    assert run.status is RunStatus.COMPLETED and "model.uploaded" in run.reason.message
    kept = {f: shared.read(run_id, f) for f in shared.files(run_id) if f.startswith("outputs/")}
    assert kept == {
        "outputs/model/weights.bin": b"written", "outputs/model.uploaded": b"uploaded", "outputs/z.txt": b"last",
    }  # fmt: skip


def test_a_scripts_own_log_cannot_be_replaced(shared: Workspace) -> None:
    run_id = shared.submit("print('mine')")
    shared.wait(run_id)
    for name in ("azureml-logs/70_driver_log.txt", "user_logs/std_log.txt"):
        with pytest.raises(UserErrorException, match="system log"):
            shared.client.call("PUT", f"/v1/runs/{run_id}/files/{name}", body=b"forged")
    assert shared.log(run_id) == "mine\n"


def test_folders_too_deep_for_a_path_do_not_hide_the_others(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import os
        open("outputs/here.txt", "w").write("kept")
        os.chdir("outputs")
        for _ in range(400):
            os.mkdir("deeper-and-deeper"); os.chdir("deeper-and-deeper")
        open("lost.txt", "w").write("too deep")
        """
    )
    shared.wait(run_id)
    try:
        assert shared.read(run_id, "outputs/here.txt") == b"kept"
    finally:
        remove_tree(os.path.join(shared.dir, "runs", run_id))  # pytest could not


def test_names_that_no_file_system_takes_are_the_callers_fault(shared: Workspace) -> None:
    run_id = shared.submit("print(1)")
    shared.wait(run_id)
    with pytest.raises(UserErrorException, match="too long"):
        shared.client.call("PUT", f"/v1/runs/{run_id}/files/{'x' * 300}", body=b"")
    with pytest.raises(UserErrorException, match="tag"):
        shared.client.patch(f"/v1/runs/{run_id}", {"tags": {"": "nameless"}})


def test_a_job_does_not_become_the_parent_of_a_server(shared: Workspace) -> None:
    run_id = shared.submit(
        """
        import azureml.core
        try:
            print(azureml.core.Workspace.create("other", exist_ok=True).get_details())
        except azureml.core.UserErrorException if hasattr(azureml.core, "UserErrorException") else Exception as problem:
            print("refused:", problem)
        """
    )
    shared.wait(run_id)
    assert "refused:" in shared.log(run_id) and "server start" in shared.log(run_id)


def test_a_submit_at_the_moment_of_the_idle_stop_is_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "0.2")
    runs = [workspace.submit("print('ran')") for _ in range(6)]
    for run_id in runs:
        workspace.wait(run_id)  # each wait ends as the next idle stop begins
        runs_on = workspace.submit("print('ran')")
        assert workspace.wait(runs_on).status is RunStatus.COMPLETED
    assert {workspace.get(run_id).status for run_id in runs} == {RunStatus.COMPLETED}


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home on a file system of 24 MB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(tmp_path)], check=True)
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path))
    yield tmp_path
    end_processes_of(tmp_path)
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.mounts
def test_a_full_disk_costs_points_that_are_counted_and_nothing_else(small_disk: Path) -> None:
    workspace = Workspace("full")
    run_id = workspace.submit(
        """
        import os
        from azureml.core import Run
        run = Run.get_context()
        for i in range(100):
            run.log("x", i)
        run.flush()
        print("filling", flush=True)
        ballast = os.open("ballast", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(ballast, bytes(4096))
        except OSError:
            pass
        try:
            while True:
                os.write(ballast, b"x")
        except OSError:
            pass
        for i in range(200_000):
            run.log("x", i)
        os._exit(0)
        """
    )
    ballast = workspace.dir + f"/runs/{run_id}/work/ballast"
    workspace.wait_for_text(run_id, "filling")
    _until_script_ended(run_id)
    if os.path.exists(ballast):  # else the record found room, and its end freed the rest
        os.truncate(ballast, 0)
    run = workspace.wait(run_id)
    values = workspace.values(run_id, "x")
    assert values[:100] == list(range(100))
    assert run.lost_points > 0 and len(values) + run.lost_points == 200_100
    assert (run.status, run.reason.code) == (RunStatus.COMPLETED, "completed"), run.reason
    assert f"{run.lost_points} metric points are lost: the disk was full" in run.reason.message
    workspace.stop()
    workspace.client.close()


def _until_script_ended(run_id: str) -> None:
    for pid in processes_of(run_id):
        fd = os.pidfd_open(pid)
        assert select.select([fd], [], [], 60)[0], "the script hangs on a full disk"
        os.close(fd)


def test_bytes_that_are_no_utf8_break_neither_pages_nor_downloads(shared: Workspace) -> None:
    run_id = shared.submit(
        r"""
        from azureml.core import Run
        run = Run.get_context()
        run.log("m\udcff", 1)
        run.tag("k\udcff", "v\udcff")
        open(b"outputs/caf\xe9.txt", "w").write("kept")
        """,
        "caf\udce9.csv", tags={"t\udce9": "x"},
    )  # fmt: skip
    run = shared.wait(run_id)
    assert run.status is RunStatus.COMPLETED and "caf%E9.txt" in run.reason.message
    assert shared.read(run_id, "outputs/caf%E9.txt") == b"kept"
    assert run.spec.arguments == ("caf?.csv",) and run.tags == {"t?": "x", "k?": "v?"}
    assert shared.values(run_id, "m?") == [1]


def test_a_file_that_outputs_shares_with_others_stays_writable(shared: Workspace, tmp_path: Path) -> None:
    mine = tmp_path / "data.bin"
    mine.write_bytes(b"mine")
    shared.wait(shared.submit(f"import os; os.link({str(mine)!r}, 'outputs/data.bin')"))
    assert mine.stat().st_mode & 0o200


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"max_run_duration_s": 10**12}, "max_run_duration_seconds is 1000000000000"),
        ({"arguments": ["a\0b"]}, "Argument 1 .* NUL"),
        ({"environment_variables": {"A=B": "x"}}, "environment variable 'A=B'"),
    ],
)
def test_what_no_process_can_be_given_is_refused(shared: Workspace, spec: dict[str, object], words: str) -> None:
    with pytest.raises(UserErrorException, match=words):
        shared.submit("print(1)", **spec)


@pytest.mark.faults
def test_a_deleted_home_stays_deleted(workspace: Workspace) -> None:
    server = os.pidfd_open(workspace.server_pid())
    agent = os.pidfd_open(workspace.agent_pid())
    shutil.rmtree(os.environ["WINDLASS_HOME"])
    for process in (server, agent):
        assert select.select([process], [], [], 30)[0], "it outlives the home it served"
        os.close(process)
    assert not os.path.exists(workspace.dir)


def test_a_home_may_be_a_link(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "big-disk")
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "link"))
    linked = Workspace()
    assert linked.wait(linked.submit("print(1)")).status is RunStatus.COMPLETED
    linked.stop()
    linked.client.close()


@pytest.mark.faults
def test_a_database_that_vanished_beside_its_runs_is_said(workspace: Workspace) -> None:
    workspace.wait(workspace.submit("print(1)"))
    server = os.pidfd_open(workspace.server_pid())
    workspace.stop()
    assert select.select([server], [], [], 30)[0]
    os.close(server)
    for name in ("windlass.db", "windlass.db-wal", "windlass.db-shm"):
        if os.path.exists(os.path.join(workspace.dir, name)):
            os.unlink(os.path.join(workspace.dir, name))
    with pytest.raises(AzureMLException, match="runs lie in"):
        workspace.server_pid()


@pytest.mark.faults
def test_a_server_that_nobody_can_find_makes_room(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "0.2")
    run_id = workspace.submit("import signal; print('up', flush=True); signal.pause()")
    workspace.wait_for_text(run_id, "up")
    lost = workspace.server_pid()
    process = os.pidfd_open(lost)
    os.unlink(socket_path(workspace.dir))
    assert select.select([process], [], [], 30)[0], "it keeps the workspace and cannot be called"
    os.close(process)
    assert workspace.server_pid() != lost and workspace.get(run_id).status is RunStatus.RUNNING


@pytest.mark.faults
def test_a_settings_file_half_written_does_not_stop_the_clock(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file = os.path.join(os.environ["WINDLASS_HOME"], "settings.json")
    with open(settings_file, "w") as f:
        f.write('{"server_idle_s": 0.5}')
    process = os.pidfd_open(workspace.server_pid())
    with open(settings_file, "w") as f:
        f.write('{"server_')
    assert select.select([process], [], [], 30)[0], "it never ends for idleness any more"
    os.close(process)
    os.unlink(settings_file)
