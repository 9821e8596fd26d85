"""Backup, restore, delete and prune, killed at any moment: whole or not there, and nothing left for ever."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.evidence import Witnessed
from faults.restored import BUSY, Seen, make, restored, silent
from windlass import _backups
from windlass.errors import AzureMLException, ServiceUnavailable
from windlassd.testing.harness import Workspace, kill

pytestmark = pytest.mark.faults
Rounds = Callable[[int], range]
RESTORE = """
import sys
from windlass import _backups
_backups.restore(_backups.find(sys.argv[1])[-1], sys.argv[2], len(sys.argv) > 3, lambda *told: print(flush=True))
"""


def test_backups_of_busy_runs_restore_to_what_the_runs_had_done(
    workspace: Workspace, tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs begin and end all the while."""
    monkeypatch.setenv("WINDLASS_LOCAL_SLOTS", "4")
    folder = tmp_path / "backups"
    going = [Witnessed(workspace, tmp_path, BUSY).submit() for _ in range(2)]
    for run in going:
        workspace.wait_for_text(run.id, "line 000000020")
    kept = []
    for number in rounds(2):
        short = Witnessed(workspace, tmp_path, "diary.log(run, 300); diary.say(30); diary.keep(5)").submit()
        seen = [Seen(run) for run in going]
        kept.append((make(workspace, folder), seen))
        if number % 2:
            short.check(status="Completed")
    for run in going:
        workspace.client.post(f"/v1/runs/{run.id}/cancel")
        run.check(status="Canceled")
    last = make(workspace, folder), [Seen(run) for run in going]
    for number, (backup, seen) in enumerate([*kept, last]):
        assert _backups.verify(backup, silent) == []
        with restored(backup, tmp_path / f"home-{number}") as other:
            for one in seen:
                one.check(other)
        shutil.rmtree(tmp_path / f"home-{number}")


def test_a_backup_whose_server_is_killed_is_not_there(
    workspace: Workspace, tmp_path: Path, chance: random.Random, rounds: Rounds
) -> None:
    folder = tmp_path / "backups"
    run = Witnessed(workspace, tmp_path, "diary.log(run, 100); diary.keep(200, 100000)", size=100_000).submit()
    run.check(status="Completed")
    whole = 0
    for _ in rounds(4):
        try:
            _backups.make(workspace.client, str(folder), None, _Killer(workspace.server_pid(), chance.randrange(8)))
            whole += 1
        except ServiceUnavailable as problem:
            assert "there is none of this moment" in problem.message
        found = _found(folder)
        assert whole <= len(found) <= whole + 1, "named before it was whole, or the answer was lost"
        whole = len(found)
        for backup in found[-1:]:
            assert _backups.verify(backup, silent) == []
    last = make(workspace, folder)
    assert [name for name in os.listdir(os.path.join(workspace.dir, "server")) if name.startswith("backup-")] == []
    with restored(last, tmp_path / "other") as other:
        run.workspace = other
        run.check_points()
        run.check_files()


def test_a_killed_restore_is_as_if_nothing_had_been_done(
    workspace: Workspace, tmp_path: Path, chance: random.Random, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Witnessed(workspace, tmp_path, "diary.log(run, 100); diary.keep(300)").submit()
    run.check(status="Completed")
    backup = make(workspace, tmp_path / "backups")
    workspace.stop()
    other = tmp_path / "other"
    monkeypatch.setenv("WINDLASS_HOME", str(other))
    for number in rounds(6):
        process = subprocess.Popen([sys.executable, "-c", RESTORE, backup.path, "test"], stdout=subprocess.PIPE)
        assert process.stdout
        for _ in range(chance.randrange(backup.manifest.files)):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        place = other / "workspaces" / "test"
        if place.exists():
            assert (place / "windlass.db").exists() and len(os.listdir(place / "runs")) == 1
            os.rename(place, other / f"was-{number}")
    _backups.restore(backup, None, False, silent)
    assert os.listdir(other / "restoring") == ["lock"]
    again = Workspace("test")
    run.workspace = again
    run.check_points()
    run.check_files()
    again.stop()
    again.client.close()


def test_a_killed_restore_over_a_workspace_leaves_one_of_the_two(
    workspace: Workspace, tmp_path: Path, chance: random.Random, rounds: Rounds
) -> None:
    run = Witnessed(workspace, tmp_path, "diary.log(run, 100)").submit()
    run.check(status="Completed")
    backup = make(workspace, tmp_path / "backups")
    for _ in rounds(3):
        words = [backup.path, "test", "force"]
        process = subprocess.Popen([sys.executable, "-c", RESTORE, *words], stdout=subprocess.PIPE)
        assert process.stdout
        for _ in range(chance.randrange(backup.manifest.files + 3)):
            process.stdout.readline()
        timer = threading.Timer(chance.random() * 0.3, process.send_signal, [signal.SIGKILL])
        timer.start()
        process.wait()
        timer.cancel()
        process.stdout.close()
        run.check_points()


def test_a_server_killed_while_it_deletes_leaves_nothing(
    workspace: Workspace, tmp_path: Path, chance: random.Random, rounds: Rounds
) -> None:
    stays = Witnessed(workspace, tmp_path, "diary.log(run, 20); diary.keep(2)").submit()
    stays.check(status="Completed")
    for number in rounds(2):
        text = f"diary.log(run, 2000); diary.keep(150)  # {number}"
        runs = [Witnessed(workspace, tmp_path, text).submit() for _ in range(2)]
        for run in runs:
            run.check(status="Completed")
        pid = workspace.server_pid()
        timer = threading.Timer(chance.random() * 0.15, kill, [pid])
        timer.start()
        answer: dict[str, Any] = workspace.client.post("/v1/run-deletions", {"runs": [run.id for run in runs]})
        timer.join()
        assert {run.id for run in runs} >= set(answer["runs"])
        _until_freed(workspace)
        assert os.listdir(os.path.join(workspace.dir, "runs")) == [stays.id]
        assert [r["id"] for r in workspace.client.get("/v1/runs")["runs"]] == [stays.id]
        snapshot = workspace.get(stays.id).spec.snapshot_id
        held = {file["sha256"] for file in workspace.client.get(f"/v1/snapshots/{snapshot}")["files"]}
        assert _blobs(workspace) == held
    stays.check_points()
    stays.check_files()


def test_a_deleted_run_that_somebody_downloads_and_streams(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, "diary.log(run, 50); diary.keep(1, 30_000_000)", size=30_000_000).submit()
    run.check(status="Completed")
    events = workspace.client.events(f"/v1/runs/{run.id}/stream", logs=1)
    assert next(events)
    answer = workspace.client.open("GET", f"/v1/runs/{run.id}/files/outputs/file-000000.bin", own_connection=True)
    first = answer.read(1000)
    workspace.client.delete(f"/v1/runs/{run.id}")
    assert len(first) + len(answer.read()) == 30_000_000, "a download under way is finished"
    events.close()
    assert workspace.client.delete(f"/v1/runs/{run.id}") == {"runs": [], "freed_bytes": 0}
    with pytest.raises(AzureMLException, match="No run"):
        workspace.client.put(f"/v1/runs/{run.id}/files/outputs/late.txt", "late")
    assert os.listdir(os.path.join(workspace.dir, "runs")) == []


def test_a_killed_prune_goes_on_when_it_is_called_again(
    workspace: Workspace, tmp_path: Path, chance: random.Random, rounds: Rounds
) -> None:
    runs = [Witnessed(workspace, tmp_path, "diary.log(run, 500); diary.keep(20)").submit() for _ in range(6)]
    for run in runs:
        run.check(status="Completed")
    ended = max(workspace.get(run.id).ended or 0 for run in runs)
    for _ in rounds(2):
        pid = workspace.server_pid()
        timer = threading.Timer(chance.random() * 0.1, kill, [pid])
        timer.start()
        while workspace.client.post("/v1/workspace/prune", {"before": ended + 1})["more"]:
            pass
        timer.join()
    _until_freed(workspace)
    assert os.listdir(os.path.join(workspace.dir, "runs")) == [] and _blobs(workspace) == set()
    workspace.client.get("/v1/server")


@pytest.mark.mounts
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_full_disk_leaves_no_backup(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, "diary.keep(30, 1000000)", size=1_000_000).submit()
    run.check(status="Completed")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(AzureMLException, match=r"No space left.*Nothing of it is left"):
            _backups.make(workspace.client, str(small), None, silent)
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


class _Killer:
    """Kills a server once it has told of its progress so often."""

    def __init__(self, pid: int, after: int) -> None:
        self._pid = pid
        self._left = after

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if self._left == 0:
            kill(self._pid)
        self._left -= 1


def _found(folder: Path) -> list[_backups.Backup]:
    try:
        return _backups.find(str(folder))
    except AzureMLException:
        return []


def _blobs(workspace: Workspace) -> set[str]:
    root = Path(workspace.dir) / "blobs"
    return {path.parent.name + path.name for path in root.glob("??/*")}


def _until_freed(workspace: Workspace) -> None:
    """What a deletion waits for is all that is under way."""
    gone = Witnessed(workspace, Path(workspace.dir), "pass").submit()
    gone.check(status="Completed")
    workspace.client.delete(f"/v1/runs/{gone.id}")
