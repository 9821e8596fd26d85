"""Disks that are full or read-only, in turn: the workspace, the runs, the caches. Root mounts small file systems."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from conftest import end_processes_of
from faults.evidence import Witnessed, left_over
from windlass.errors import AzureMLException, ServiceUnavailable
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace, kill
from windlassd.testing.package_index import PackageIndex

pytestmark = pytest.mark.mounts


class Disk:
    """A small file system of its own."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", path], check=True)

    def fill(self) -> None:
        """Leave not one byte."""
        ballast = os.open(self.path / "ballast", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    os.write(ballast, bytes(size))
            except OSError:
                pass
        os.close(ballast)

    def free(self) -> None:
        (self.path / "ballast").unlink()

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)

    def writable(self) -> None:
        subprocess.run(["mount", "-o", "remount,rw", self.path], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)


@pytest.fixture
def mount(home: Path) -> Iterator[Callable[..., Disk]]:
    """``mount("workspaces/test/runs", megabytes=8)``: a small file system at that place of the home."""
    made: list[Disk] = []

    def mount(place: str, megabytes: int = 24) -> Disk:
        made.append(Disk(home / place, megabytes))
        return made[-1]

    yield mount
    end_processes_of(home)
    for disk in reversed(made):
        disk.unmount()


PAUSE = """
def pause():
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    print("paused", flush=True)
    signal.sigwait([signal.SIGUSR1])
"""


def go_on(run_id: str) -> None:
    os.kill(min(processes_of(run_id)), signal.SIGUSR1)


def until_ended(run_id: str) -> None:
    """Return when the script's processes are gone."""
    for pid in processes_of(run_id):
        fd = os.pidfd_open(pid)
        assert select.select([fd], [], [], 60)[0], "the script hangs"
        os.close(fd)


def test_a_full_workspace_refuses_new_runs_and_says_so_on_old_ones(
    mount: Callable[..., Disk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.5")
    disk = mount(".")
    workspace = Workspace()
    run = Witnessed(workspace, tmp_path, PAUSE + "diary.log(run, 50); diary.say(5); pause()").submit()
    workspace.wait_for_text(run.id, "paused")
    disk.fill()
    with pytest.raises(ServiceUnavailable, match=r"(?i)free some space"):
        Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit()
    with pytest.raises(ServiceUnavailable, match=r"disk is full.*Nothing was changed"):
        workspace.client.patch(f"/v1/runs/{run.id}", {"tags": {"seen": "yes"}})
    told = workspace.get(run.id)
    assert told.reason and told.reason.code == "not_recorded" and "disk is full" in told.reason.message
    disk.free()
    told = workspace.wait_for(run.id, lambda record: bool(record.reason and record.reason.code == "running"))
    go_on(run.id)
    run.check(status="Completed")
    Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit().check(status="Completed")


def test_a_run_that_ends_while_the_disk_is_full_is_recorded_when_there_is_room(
    mount: Callable[..., Disk], tmp_path: Path
) -> None:
    disk = mount(".")
    workspace = Workspace()
    run = Witnessed(workspace, tmp_path, PAUSE + "diary.log(run, 50); diary.keep(3); pause()")
    workspace.wait_for_text(run.submit().id, "paused")
    workspace.wait_for(run.id, lambda _: len(workspace.values(run.id, "loss")) == 50)
    disk.fill()
    go_on(run.id)
    until_ended(run.id)
    record = workspace.wait_for(run.id, lambda r: bool(r.reason and r.reason.code == "not_recorded"))
    assert not record.status.final
    disk.free()
    run.check(status="Completed", reason="completed")
    agent = workspace.agent_pid()
    workspace.stop()
    psutil.wait_procs([psutil.Process(agent)] if psutil.pid_exists(agent) else [])
    assert left_over(disk.path) == []


@pytest.mark.parametrize("restarted", [False, True], ids=["server up", "server killed"])
def test_a_disk_that_is_full_to_the_last_byte_is_emptied_with_windlass(
    mount: Callable[..., Disk], tmp_path: Path, restarted: bool
) -> None:
    disk = mount(".", 32)
    workspace = Workspace()
    keep = "diary.log(run, 200); open('outputs/big', 'wb').write(bytes(6 << 20))"
    runs = [Witnessed(workspace, tmp_path, keep).submit() for _ in range(3)]
    for run in runs:
        run.check(status="Completed")
    disk.fill()
    if restarted:
        kill(workspace.server_pid())
    with pytest.raises(ServiceUnavailable, match=r"(?i)free some space"):
        for number in range(10_000):  # whatever room the database's log has left is used up
            workspace.client.patch(f"/v1/runs/{runs[0].id}", {"tags": {f"t{number}": "x" * 50_000}})
    answer = workspace.client.post("/v1/run-deletions", {"runs": [runs[0].id]})
    assert answer["runs"] == [runs[0].id] and not os.path.exists(os.path.join(workspace.dir, "runs", runs[0].id))
    Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit().check(status="Completed")
    disk.fill()
    with pytest.raises(ServiceUnavailable, match=r"(?i)free some space"):
        Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit()
    answer = workspace.client.post("/v1/workspace/prune", {"before": time.time() + 1})
    assert {run.id for run in runs[1:]} <= set(answer["runs"])
    Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit().check(status="Completed")


def test_a_server_starts_on_a_full_disk_and_shows_what_there_is(mount: Callable[..., Disk], tmp_path: Path) -> None:
    disk = mount(".")
    workspace = Workspace()
    run = Witnessed(workspace, tmp_path, "diary.log(run, 10)").submit()
    run.check(status="Completed")
    disk.fill()
    kill(workspace.server_pid())
    assert workspace.values(run.id, "loss") == list(range(10))
    disk.free()
    Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit().check(status="Completed")


def test_a_read_only_workspace_is_named_with_a_way_out(mount: Callable[..., Disk], tmp_path: Path, home: Path) -> None:
    disk = mount(".")
    workspace = Workspace()
    run = Witnessed(workspace, tmp_path, "diary.log(run, 10)").submit()
    run.check(status="Completed")
    end_processes_of(home)
    disk.read_only()
    with pytest.raises(AzureMLException, match=r"cannot be written.*[Rr]ead-only"):
        workspace.get(run.id)
    disk.writable()
    assert workspace.values(run.id, "loss") == list(range(10))


def test_a_full_disk_of_runs_fails_the_run_and_not_the_server(mount: Callable[..., Disk], tmp_path: Path) -> None:
    workspace = Workspace()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit().check(status="Completed")
    disk = mount("workspaces/test/runs", 8)
    disk.fill()
    run = Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit()
    record = workspace.wait(run.id)
    assert record.status is RunStatus.FAILED
    assert record.reason and "No space left" in record.reason.message and record.reason.code in ("disk", "start_failed")
    disk.free()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit().check(status="Completed")


def test_a_read_only_disk_of_runs_fails_the_run_and_not_the_server(mount: Callable[..., Disk], tmp_path: Path) -> None:
    workspace = Workspace()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit().check(status="Completed")
    server = workspace.server_pid()
    disk = mount("workspaces/test/runs", 8)
    disk.read_only()
    record = workspace.wait(Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit().id)
    assert record.status is RunStatus.FAILED
    assert record.reason and "ead-only" in record.reason.message, record.reason
    disk.writable()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit().check(status="Completed")
    assert workspace.server_pid() == server


def test_outputs_that_fill_the_disk_are_the_scripts_own_error(mount: Callable[..., Disk], tmp_path: Path) -> None:
    workspace = Workspace()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit().check(status="Completed")
    mount("workspaces/test/runs", 8)
    run = Witnessed(workspace, tmp_path, "diary.log(run, 20); open('outputs/big', 'wb').write(bytes(9 << 20))").submit()
    record = workspace.wait(run.id)
    assert record.status is RunStatus.FAILED and record.reason and record.reason.code == "disk_full", record.reason
    run.check_points()


def test_caches_without_room_fail_a_build_in_words_and_serve_what_they_have(
    mount: Callable[..., Disk], tmp_path: Path
) -> None:
    disk = mount("environments", 12)
    workspace = Workspace()
    built = {"pip_packages": []}
    Witnessed(workspace, tmp_path, "diary.log(run, 1)", environment=built).submit().check(status="Completed")
    disk.fill()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)", environment=built).submit().check(status="Completed")
    other = Witnessed(workspace, tmp_path, "print(1)", environment={"python_version": "3.9"}).submit()
    record = workspace.wait(other.id)
    assert record.status is RunStatus.FAILED and record.reason
    assert record.reason.code == "environment_failed" and "Free some space" in record.reason.message, record.reason
    disk.free()
    again = Witnessed(workspace, tmp_path, "diary.log(run, 1)", environment={"python_version": "3.9"}).submit()
    again.check(status="Completed")
    assert os.listdir(disk.path / "building") == []


@pytest.mark.parametrize(
    ("place", "room"),
    [("uv-cache", 0), ("uv-cache", 5), ("environments", 5)],
    ids=["resolving", "fetching", "building"],
)
def test_a_disk_that_fills_up_while_an_environment_is_made_fails_in_words_and_works_once_there_is_room(
    place: str, room: int, mount: Callable[..., Disk], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mount(place, 40)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("UV_CACHE_DIR", str(home / "uv-cache"))
    with PackageIndex() as index:
        index.add("big", files={"big/__init__.py": "x = 1\n", "big/data.txt": "".join(map(str, range(1_700_000)))})
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        workspace = Workspace()
        Witnessed(workspace, tmp_path, "diary.log(run, 1)").submit().check(status="Completed")
        disk.fill()
        if room:
            os.truncate(disk.path / "ballast", os.path.getsize(disk.path / "ballast") - (room << 20))
        asked = {"pip_packages": ["big"]}
        record = workspace.wait(Witnessed(workspace, tmp_path, "print(1)", environment=asked).submit().id)
        assert record.status is RunStatus.FAILED and record.reason and not record.nodes
        assert record.reason.code == "environment_failed", record.reason
        assert "full" in record.reason.message or "No space left" in record.reason.message, record.reason
        assert "Free some space" in record.reason.message, record.reason
        disk.free()
        script = "import big; diary.log(run, 1)"
        Witnessed(workspace, tmp_path, script, environment=asked).submit().check(status="Completed")
        assert os.listdir(home / "environments" / "building") == []


def test_read_only_caches_serve_what_they_have(mount: Callable[..., Disk], tmp_path: Path, home: Path) -> None:
    disk = mount("environments", 24)
    workspace = Workspace()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)", environment={}).submit().check(status="Completed")
    end_processes_of(home)
    disk.read_only()
    Witnessed(workspace, tmp_path, "diary.log(run, 1)", environment={}).submit().check(status="Completed")
    other = Witnessed(workspace, tmp_path, "print(1)", environment={"python_version": "3.9"}).submit()
    record = workspace.wait(other.id)
    assert record.reason and record.reason.code == "environment_failed" and "ead-only" in record.reason.message
