"""Which mounts a database may lie on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlassd.store.filesystem import make_durable_folder, refuse_network

_ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


def _mounts(*lines: str) -> str:
    return "\n".join([_ROOT, *lines]) + "\n"


@pytest.mark.parametrize(
    "mount",
    [
        "nfs server:/home rw",
        "nfs4 server:/home rw",
        "cifs //server/share rw",
        "smb3 //server/share rw",
        "fuse.sshfs me@server: rw",
        "fuse.s3fs s3fs rw",
        "fuse s3fs#bucket rw",
        "ceph 10.0.0.1:/ rw",
        "lustre 10.0.0.1@tcp:/fs rw",
        "gpfs gpfs0 rw",
        "beegfs beegfs_nodev rw",
        "afs AFS rw",
        "9p server rw,trans=tcp,port=564",
    ],
)
def test_network_file_systems_are_refused_with_advice(mount: str) -> None:
    with pytest.raises(UserErrorException) as caught:
        refuse_network("/home/me/.windlass", _mounts(f"40 27 0:40 / /home rw shared:5 master:1 - {mount}"))
    for word in ("/home/me/.windlass", mount.split()[0], "mounted at /home", "WINDLASS_HOME", "local disk"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "mount",
    [
        "ext4 /dev/sdb rw",
        "tmpfs tmpfs rw",
        "overlay overlay rw,lowerdir=/a",
        "btrfs /dev/sdc rw",
        "virtiofs host rw",
        "9p C:\\134 rw,aname=drvfs;path=C:\\,trans=fd,rfd=8",
        "9p hostshare rw,trans=virtio",
        "fuse.fuse-overlayfs fuse-overlayfs rw",
        "fuseblk /dev/sdd1 rw",
    ],
)
def test_local_file_systems_are_not(mount: str) -> None:
    refuse_network("/home/me", _mounts(f"40 27 0:40 / /home rw - {mount}"))


def test_the_longest_mount_point_counts_and_of_equal_ones_the_last() -> None:
    lines = ["40 27 0:40 / /home rw - nfs4 s:/ rw", "41 40 0:41 / /home/me rw - ext4 /dev/sdb rw"]
    refuse_network("/home/me/x", _mounts(*lines))
    refuse_network("/home/me/x", _mounts(*reversed(lines)))
    refuse_network("/homely", _mounts(*lines))
    with pytest.raises(UserErrorException):
        refuse_network("/home/other", _mounts(*lines))
    with pytest.raises(UserErrorException):
        refuse_network("/home/me", _mounts(lines[1], "42 41 0:42 / /home/me rw - nfs s:/ rw"))


def test_escapes_in_mount_points_are_decoded() -> None:
    with pytest.raises(UserErrorException, match="/my disk"):
        refuse_network("/my disk/x", _mounts(r"40 27 0:40 / /my\040disk rw - nfs s:/ rw"))


def test_a_link_into_a_network_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "net")
    mount = _mounts(f"40 27 0:40 / {tmp_path}/net rw - nfs s:/ rw")
    with pytest.raises(UserErrorException):
        refuse_network(str(tmp_path / "link" / "not yet there"), mount)


def test_lines_that_make_no_sense_are_passed_over() -> None:
    refuse_network("/x", "\nhello\n1 2 3 - nfs\n")


def test_this_machines_own_mounts_are_read(tmp_path: Path) -> None:
    refuse_network(str(tmp_path))


def test_folders_are_synced_up_to_what_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    make_durable_folder(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    assert synced[:2] == [str(tmp_path / "a"), str(tmp_path)]


def test_a_folder_that_cannot_be_synced_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    make_durable_folder(str(tmp_path / "a"))
    assert (tmp_path / "a").is_dir()
