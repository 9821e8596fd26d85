"""Restoring a backup that somebody else made: nothing outside of the home is touched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from windlass import _backups
from windlass.errors import UserErrorException
from windlass.specs.backup import FORMAT, INDEX_FILE, MANIFEST_FILE, Entry, Manifest


def backup_of(folder: Path, *entries: Entry) -> _backups.Backup:
    folder.mkdir()
    index = b"".join(entry.to_line() for entry in entries)
    (folder / INDEX_FILE).write_bytes(index)
    digest = hashlib.sha256(index).hexdigest()
    manifest = Manifest(FORMAT, "0.1.0", "ws", 1.0, len(entries), 0, 0, 0, (), digest)
    (folder / MANIFEST_FILE).write_text(manifest.to_text())
    return _backups.Backup(str(folder), manifest)


def restore(backup: _backups.Backup) -> _backups.Restored:
    return _backups.restore(backup, None, False, lambda *said: None)


@pytest.mark.parametrize(
    "path",
    ["workspace", "workspace/runs", "workspace/runs/a_1", "workspace/blobs/ab", "workspace/windlass.db", "home",
     "home/offline", "home/environments/requests", "home/settings.json", "other/place/of/a/link"],
)  # fmt: skip
def test_no_link_stands_where_windlass_goes_in_and_out(home: Path, tmp_path: Path, path: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "key").write_text("secret")
    backup = backup_of(tmp_path / "backup", Entry(path, link=str(victim)))
    with pytest.raises(UserErrorException, match=r"has a link as .* Nothing was restored"):
        restore(backup)
    assert (victim / "key").exists() and not (home / "workspaces").exists()


def test_links_that_scripts_left_come_back(home: Path, tmp_path: Path) -> None:
    paths = ["workspace/runs/a_1/files/outputs/best", "workspace/datastores/mine", "home/offline/r/outputs/best"]
    made = restore(backup_of(tmp_path / "backup", *(Entry(path, link="/nowhere") for path in paths)))
    assert (Path(made.folder) / "runs" / "a_1" / "files" / "outputs" / "best").is_symlink()
    assert (Path(made.folder) / "datastores" / "mine").is_symlink()
    assert (home / "offline" / "r" / "outputs" / "best").is_symlink()


@pytest.mark.parametrize("path", ["../x", "workspace/../../x", "/etc/x", "workspace//x", "workspace/./x"])
def test_no_path_leads_out(home: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(UserErrorException, match="leads out of the backup"):
        restore(backup_of(tmp_path / "backup", Entry(path)))
    assert not (home / "workspaces").exists()


def test_a_restored_workspace_is_its_owners_alone(home: Path, tmp_path: Path) -> None:
    made = restore(backup_of(tmp_path / "backup", Entry("workspace/runs/a_1/files/outputs")))
    assert Path(made.folder).stat().st_mode & 0o777 == 0o700
