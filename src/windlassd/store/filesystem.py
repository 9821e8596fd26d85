"""Which file systems a database may not lie on, and folders that survive a power loss."""

from __future__ import annotations

import errno
import os
import re

from windlass.errors import UserErrorException

# Shared with other machines: locks and the shared memory of the write-ahead log do not hold across hosts.
_REMOTE = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb", "smbfs", "smb2", "smb3", "ncpfs", "afs", "auristorfs", "coda", "ceph",
        "lustre", "gpfs", "mmfs", "beegfs", "fhgfs", "glusterfs", "orangefs", "pvfs2", "panfs", "wekafs",
        "gfs2", "ocfs2",
    }
)  # fmt: skip
_REMOTE_FUSE = frozenset(
    {
        "sshfs", "ceph", "ceph-fuse", "glusterfs", "s3fs", "s3backer", "mountpoint-s3", "goofys", "gcsfuse",
        "blobfuse", "blobfuse2", "rclone", "juicefs", "mfs", "moosefs", "lizardfs", "seaweedfs", "davfs",
        "curlftpfs", "cvmfs2", "hdfs", "afpfs", "beegfs", "smbnetfs",
    }
)  # fmt: skip


def refuse_network(path: str, mountinfo: str | None = None) -> None:
    """Raise UserErrorException with advice when ``path`` lies on a network file system.

    9p and virtiofs are how virtual machines, containers and WSL see a folder of their own host, often as ``/``; they
    are allowed, but 9p over the network (``trans=tcp`` or ``rdma``) is not. Without /proc nothing is refused.

    Args:
        path: A folder, which need not exist yet.
        mountinfo: Text of /proc/self/mountinfo; read from there when None.
    """
    if mountinfo is None:
        mountinfo = _mountinfo()
    place = os.path.realpath(path)
    found = _mount_of(place, mountinfo)
    if found is None or not _remote(*found[1:]):
        return
    raise UserErrorException(
        f"{place} lies on a network file system ({found[1]}, mounted at {found[0]}). The workspace's database cannot:"
        " file locks do not hold there and records would be lost. Set WINDLASS_HOME to a folder on a local disk, such"
        " as /var/tmp/windlass, and try again."
    )


def make_durable_folder(path: str) -> None:
    """Make ``path`` and what is missing above it, so that a power loss after the return leaves it where it is.

    Whoever made some of the folders before may not have synced their names; so all of this user's on the way are.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    place = os.path.realpath(path)
    while (above := os.path.dirname(place)) != place and os.stat(above).st_uid == os.geteuid():
        if not _sync(above):
            return
        place = above


def _sync(folder: str) -> bool:
    """Sync the names in a folder; False where that is not to be had: it may not be read, or its disk is read-only."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except PermissionError:
        return False
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.EROFS, errno.ENOTSUP):
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def _mountinfo() -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _mount_of(place: str, mountinfo: str) -> tuple[str, str, str, str] | None:
    """Mount point, type, source and options of the mount that ``place`` is on.

    The longest mount point that contains it, and of equal ones the last, which covers the others.
    """
    best = None
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not dash or len(before) < 5 or len(after) < 3:
            continue
        point = _decoded(before[4])
        if _contains(point, place) and (best is None or len(point) >= len(best[0])):
            best = (point, after[0], _decoded(after[1]), after[2])
    return best


def _contains(point: str, place: str) -> bool:
    return point == "/" or place == point or place.startswith(point + "/")


def _decoded(field: str) -> str:
    r"""``field`` with the octal escapes of space, tab, newline and backslash (``\040``) decoded."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _remote(kind: str, source: str, options: str) -> bool:
    if kind in _REMOTE:
        return True
    if kind == "9p":
        return bool({"trans=tcp", "trans=rdma"} & set(options.split(",")))
    if kind.startswith("fuse."):
        return kind[len("fuse.") :] in _REMOTE_FUSE
    return kind == "fuse" and os.path.basename(source).partition("#")[0] in _REMOTE_FUSE
