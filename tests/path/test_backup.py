"""Backups while runs go on, restored in another home: real servers, real jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.evidence import Witnessed
from faults.restored import BUSY, Seen, make, restored, silent
from windlass import _backups, _workspace_end
from windlass.errors import AzureMLException, UserErrorException
from windlassd.testing.harness import Workspace


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace()


def test_a_backup_has_what_was_there_and_what_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    ended = Witnessed(workspace, tmp_path, "diary.log(run, 50); diary.say(5); diary.keep(3)").submit()
    ended.check(status="Completed")
    workspace.client.post("/v1/models", {"name": "m", "run_id": ended.id, "path": "outputs"})
    model = workspace.client.get("/v1/models/m/versions/1")
    workspace.client.post("/v1/registered-environments/e", {"definition": {"x": 1}})
    workspace.client.call("PUT", "/v1/datastores/workspaceblobstore/files/d/x.csv", body=b"1,2\n",
                          content_type="application/octet-stream")  # fmt: skip
    going = Witnessed(workspace, tmp_path, BUSY).submit()
    workspace.wait_for_text(going.id, "line 000000020")
    seen = Seen(going)
    backup = make(workspace, tmp_path / "backups")
    assert not workspace.get(going.id).status.final, "a backup stops nothing"
    assert backup.manifest.unfinished == (going.id,)
    workspace.stop()

    with restored(backup, tmp_path / "other") as other:
        seen.check(other)
        record = other.get(going.id)
        assert record.status.value == "Failed" and record.reason and record.reason.code == "restored"
        assert record.reason.message.endswith("; it was Running then.")
        ended.workspace = other
        assert other.get(ended.id).status.value == "Completed"
        ended.check_points()
        ended.check_lines()
        ended.check_files()
        assert other.client.get("/v1/models/m/versions/1") == model
        assert other.client.open("GET", "/v1/models/m/versions/1/files/outputs/file-000000.bin").read()
        assert other.client.get("/v1/registered-environments/e")["definition"] == {"x": 1}
        assert other.client.open("GET", "/v1/datastores/workspaceblobstore/files/d/x.csv").read() == b"1,2\n"
        snapshot = other.get(ended.id).spec.snapshot_id
        for file in other.client.get(f"/v1/snapshots/{snapshot}")["files"]:
            assert other.client.open("GET", f"/v1/blobs/{file['sha256']}").read()
        again = Witnessed(other, tmp_path, "diary.log(run, 5)").submit()
        again.check(status="Completed")


@pytest.mark.faults
def test_so_many_backups_are_kept(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, "diary.keep(2)").submit()
    run.check(status="Completed")
    folder = tmp_path / "backups"
    for _ in range(2):
        make(workspace, folder)
    last = _backups.make(workspace.client, str(folder), 1, silent)
    (found,) = _backups.find(str(folder))
    assert found.path == last["backup"] and len(last["removed"]) == 2
    assert _backups.verify(found, silent) == []
    assert os.listdir(folder) == [os.path.basename(found.path)]
    workspace.stop()


@pytest.mark.faults
def test_a_damaged_backup_is_told_and_not_restored(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Witnessed(workspace, tmp_path, "diary.keep(1)").submit()
    run.check(status="Completed")
    backup = make(workspace, tmp_path / "backups")
    workspace.stop()
    victim = Path(backup.path) / "workspace" / "runs" / run.id / "files" / "outputs" / "file-000000.bin"
    content = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(content[:-1] + b"?")
    assert [line.split()[0] for line in _backups.verify(backup, silent)] == [str(victim.relative_to(backup.path))]
    other = tmp_path / "other"
    monkeypatch.setenv("WINDLASS_HOME", str(other))
    with pytest.raises(UserErrorException, match=r"does not have its checksum\. Nothing was restored"):
        _backups.restore(backup, None, False, silent)
    assert os.listdir(other / "restoring") == ["lock"] and not (other / "workspaces").exists()
    victim.unlink()
    with pytest.raises(UserErrorException, match="lacks workspace/runs"):
        _backups.restore(backup, None, False, silent)
    with open(Path(backup.path) / "files.jsonl", "ab") as index:
        index.write(b'{"path":"../../x","sha256":"0"}\n')
    with pytest.raises(UserErrorException, match=r"files.jsonl is damaged"):
        _backups.restore(backup, None, False, silent)


@pytest.mark.faults
def test_a_workspace_of_the_name_is_not_overwritten(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit()
    run.check(status="Completed")
    backup = make(workspace, tmp_path / "backups")
    later = Witnessed(workspace, tmp_path, "import time; time.sleep(600)").submit()
    workspace.wait_for(later.id, lambda run: run.status.value == "Running")
    with pytest.raises(UserErrorException, match="Restore under another name with --name, or pass --force"):
        _backups.restore(backup, None, False, silent)
    with pytest.raises(UserErrorException, match=r"1 run has not ended in the workspace 'test'"):
        _backups.restore(backup, None, True, silent)
    workspace.client.post(f"/v1/runs/{later.id}/cancel")
    workspace.wait(later.id)
    made = _backups.restore(backup, None, True, silent)
    assert workspace.values(run.id, "loss") == [0, 1, 2]
    assert [r["id"] for r in workspace.client.get("/v1/runs")["runs"]] == [run.id]
    assert made.aside and os.path.exists(os.path.join(made.aside, "runs", later.id))
    beside = _backups.restore(backup, "beside", False, silent)
    assert os.path.basename(beside.folder) == "beside"
    workspace.stop()


def test_a_backup_of_a_newer_version_is_refused_in_words(workspace: Workspace, tmp_path: Path) -> None:
    workspace.client.get("/v1/workspace")
    backup = make(workspace, tmp_path / "backups")
    workspace.stop()
    newer = backup._replace(manifest=type(backup.manifest)(**{**vars(backup.manifest), "version": "99.0"}))
    with pytest.raises(UserErrorException, match=r"made by Windlass 99.0, which is newer.*pip install --upgrade"):
        _backups.restore(newer, "new", False, silent)
    place = Path(backup.path) / "manifest.json"
    place.chmod(0o600)
    place.write_text(place.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserErrorException, match="is newer than this one"):
        _backups.find(backup.path)


def test_places_that_cannot_be_are_refused_and_leave_nothing(workspace: Workspace, tmp_path: Path) -> None:
    workspace.client.get("/v1/workspace")
    with pytest.raises(UserErrorException, match="lies in the workspace itself"):
        _backups.make(workspace.client, os.path.join(workspace.dir, "backups"), None, silent)
    with pytest.raises(UserErrorException, match="it is empty"):
        _backups.make(workspace.client, "", None, silent)
    with pytest.raises(UserErrorException, match="is where the workspaces lie"):
        _backups.make(workspace.client, os.path.dirname(workspace.dir), None, silent)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(AzureMLException, match="is not a folder"):
        _backups.make(workspace.client, str(file), None, silent)
    with pytest.raises(UserErrorException, match="There is no backup in"):
        _backups.find(str(tmp_path / "none"))
    assert file.read_text() == "mine"
    workspace.stop()


@pytest.mark.faults
def test_a_workspace_that_cannot_be_opened_any_more_is_restored_over(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit()
    run.check(status="Completed")
    backup = make(workspace, tmp_path / "backups")
    with _workspace_end.stopped(workspace.client, workspace.dir):
        Path(workspace.dir, "windlass.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(AzureMLException, match="damaged"):
        Workspace().client.get("/v1/server")
    made = _backups.restore(backup, None, True, silent)
    assert made.aside and workspace.values(run.id, "loss") == [0, 1, 2]
    workspace.stop()


@pytest.mark.faults
def test_the_home_gets_what_it_does_not_have(workspace: Workspace, tmp_path: Path, home: Path) -> None:
    (home / "settings.json").write_text('{"local_slots": 1}')
    (home / "offline" / "OfflineRun_1").mkdir(parents=True)
    (home / "offline" / "OfflineRun_1" / "state.json").write_text("{}")
    workspace.client.get("/v1/workspace")
    backup = make(workspace, tmp_path / "backups")
    workspace.stop()
    other = tmp_path / "other"
    with restored(backup, other):
        assert (other / "settings.json").read_text() == '{"local_slots": 1}'
        assert (other / "offline" / "OfflineRun_1" / "state.json").exists()
    again = tmp_path / "again"
    again.mkdir()
    (again / "settings.json").write_text('{"local_slots": 7}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_HOME", str(again))
        assert _backups.restore(backup, None, False, silent).left == ["settings.json"]
    assert (again / "settings.json").read_text() == '{"local_slots": 7}'
