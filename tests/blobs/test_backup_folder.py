"""A backup in the making: whole or not there, links to what did not change, odd files as they are."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.specs.backup import INDEX_FILE, Entry, Manifest
from windlassd.blobs import backup_folder
from windlassd.blobs.backup_folder import BackupFolder, BackupStopped, DamagedSource, backups_in


@pytest.fixture(autouse=True)
def no_racy_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files of this very moment count as ones from before."""
    monkeypatch.setattr(backup_folder, "_RACY_NS", -1_000_000_000)
    yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "below").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "below" / "b.bin").write_bytes(b"b" * 3_000_000)
    return folder


def begun(tmp_path: Path, made: float = 1000.0) -> BackupFolder:
    into = BackupFolder(str(tmp_path / "backups"), "ws", made, lambda: False)
    into.begin()
    return into


def finished(into: BackupFolder, made: float = 1000.0) -> Manifest:
    return into.finish(lambda digest: Manifest(1, "0.1.0", "ws", made, into.files, into.bytes, into.new_bytes, 0, (),
                                               digest))  # fmt: skip


def index(into: BackupFolder) -> dict[str, Entry]:
    with open(os.path.join(into.path, INDEX_FILE), "rb") as lines:
        return {entry.path: entry for entry in map(Entry.from_line, lines)}


def names(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "backups"))


def test_a_folder_is_taken_as_it_is(tmp_path: Path, source: Path) -> None:
    os.symlink("/etc/passwd", source / "link")
    (source / "empty").mkdir()
    os.mkfifo(source / "pipe")
    (source / os.fsdecode(b"caf\xe9")).write_text("x")
    into = begun(tmp_path)
    list(into.tree("t", str(source)))
    manifest = finished(into)
    assert names(tmp_path) == ["ws-1970-01-01T00-16-40Z"]
    found = index(into)
    assert found["t/link"].link == "/etc/passwd" and not os.path.lexists(os.path.join(into.path, "t/link"))
    assert found["t/empty"].sha256 is None and "t/pipe" not in found
    assert found["t/" + os.fsdecode(b"caf\xe9")].size == 1
    assert found["t/below/b.bin"].sha256 == hashlib.sha256(b"b" * 3_000_000).hexdigest()
    assert (manifest.files, manifest.bytes) == (len(found), 3_000_002)


def test_what_did_not_change_is_a_link(tmp_path: Path, source: Path) -> None:
    first = begun(tmp_path)
    list(first.tree("t", str(source)))
    finished(first)
    (source / "a.txt").write_text("z")  # of the same size
    os.utime(source / "a.txt", ns=(1, index(first)["t/a.txt"].mtime_ns))  # and, it says, of the same time
    second = begun(tmp_path, 2000.0)
    list(second.tree("t", str(source)))
    assert finished(second, 2000.0).new_bytes == 1
    assert Path(second.path, "t/a.txt").read_text() == "z" and Path(first.path, "t/a.txt").read_text() == "a"
    assert os.path.samefile(os.path.join(first.path, "t/below/b.bin"), os.path.join(second.path, "t/below/b.bin"))
    assert stat.S_IMODE(os.stat(os.path.join(second.path, "t/below/b.bin")).st_mode) == 0o400
    shutil.rmtree(first.path)
    assert Path(second.path, "t/below/b.bin").stat().st_size == 3_000_000


@pytest.mark.parametrize("damage", [b"", b"Y", b"more"])
def test_a_file_that_changed_in_the_backup_before_is_copied_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    os.utime(source / "a.txt", ns=(0, 10**18))  # its times differ by hours from those of the damage
    first = begun(tmp_path)
    first.file("t", str(source / "a.txt"))
    first.file("blob", str(source / "a.txt"), hashlib.sha256(b"a").hexdigest())
    finished(first)
    for name in ("t", "blob"):
        os.chmod(os.path.join(first.path, name), 0o600)
        Path(first.path, name).write_bytes(damage)
    second = begun(tmp_path, 2000.0)
    second.file("t", str(source / "a.txt"))
    second.file("blob", str(source / "a.txt"), hashlib.sha256(b"a").hexdigest())
    assert finished(second, 2000.0).new_bytes == 2
    assert [Path(second.path, name).read_bytes() for name in ("t", "blob")] == [b"a", b"a"]


def test_a_file_of_this_very_moment_is_copied_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_folder, "_RACY_NS", 3_600_000_000_000)
    for made in (1000.0, 2000.0):
        into = begun(tmp_path, made)
        list(into.tree("t", str(source)))
        assert finished(into, made).new_bytes == 3_000_001


def test_a_content_is_known_by_its_name_and_checked_when_it_is_copied(tmp_path: Path, source: Path) -> None:
    right = hashlib.sha256(b"a").hexdigest()
    first = begun(tmp_path)
    assert first.file("blob", str(source / "a.txt"), right)
    with pytest.raises(DamagedSource, match=r"a.txt is damaged"):
        first.file("other", str(source / "a.txt"), "0" * 64)
    assert first.file("gone", str(source / "gone")) is None
    finished(first)
    assert set(index(first)) == {"blob"}
    (source / "a.txt").write_text("damaged since")
    second = begun(tmp_path, 2000.0)
    assert second.file("blob", str(source / "a.txt"), right), "the backup before has it right"
    assert finished(second, 2000.0).new_bytes == 0
    assert index(second)["blob"].size == 1, "what the backup has, and not what lies damaged in the workspace"


def test_a_file_that_grows_is_taken_up_to_where_it_was(tmp_path: Path, source: Path) -> None:
    log = source / "below" / "b.bin"

    def grow() -> bool:
        with open(log, "ab") as f:
            f.write(b"more")
        return False

    into = BackupFolder(str(tmp_path / "backups"), "ws", 1000.0, grow)
    into.begin()
    taken = into.file("log", str(log))
    assert taken and taken.size == 3_000_000 and taken.sha256 == hashlib.sha256(b"b" * 3_000_000).hexdigest()
    into.abandon()


def test_one_that_is_stopped_or_was_killed_leaves_nothing(tmp_path: Path, source: Path) -> None:
    stopped = BackupFolder(str(tmp_path / "backups"), "ws", 1000.0, lambda: True)
    stopped.begin()
    with pytest.raises(BackupStopped):
        list(stopped.tree("t", str(source)))
    stopped.abandon()
    assert names(tmp_path) == []
    killed = begun(tmp_path)
    list(killed.tree("t", str(source)))
    (dead,) = names(tmp_path)
    assert backups_in(str(tmp_path / "backups")) == [], "it is none yet"
    other = begun(tmp_path, 2000.0)
    assert dead in names(tmp_path), "its maker lives"
    other.abandon()
    killed._lock.close()  # as a kill would
    killed._index.close()
    finished(begun(tmp_path, 2000.0))
    assert names(tmp_path) == ["ws-1970-01-01T00-33-20Z"]


def test_two_of_one_second_have_two_names_and_only_so_many_stay(tmp_path: Path) -> None:
    for _ in range(3):
        into = begun(tmp_path)
        finished(into)
    assert names(tmp_path)[1:] == ["ws-1970-01-01T00-16-40Z-2", "ws-1970-01-01T00-16-40Z-3"]
    assert into.keep_only(1) == ["ws-1970-01-01T00-16-40Z", "ws-1970-01-01T00-16-40Z-2"]
    assert names(tmp_path) == ["ws-1970-01-01T00-16-40Z-3"]


def test_an_old_backup_that_cannot_be_removed_does_not_fail_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made in (1000.0, 2000.0):
        finished(into := begun(tmp_path, made), made)

    def refused(path: str) -> None:
        raise PermissionError(errno.EACCES, "not yours", path)

    monkeypatch.setattr(backup_folder, "remove_tree", refused)
    assert into.keep_only(1) == ["ws-1970-01-01T00-16-40Z"]
    assert [name for name, _ in backups_in(into.folder)] == ["ws-1970-01-01T00-33-20Z"]
