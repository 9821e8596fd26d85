"""Where a workspace lies on disk and where its server listens; shared by clients, server and agent."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import List

from windlass import settings
from windlass.errors import UserErrorException

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes


def workspace_dir(name: str) -> str:
    """The folder of a local workspace under the home; it need not exist.

    In a job on another machine than its server's, that of the job's own workspace is what its agent made for it.

    Raises:
        UserErrorException: the name could not be a folder's.
    """
    if not _NAME.match(name):
        raise UserErrorException(
            "%r cannot name a workspace: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit."
            % name
        )
    job = settings.job_context() if settings.elsewhere() else None
    if job is not None and os.path.basename(job.workspace_dir) == name:
        return job.workspace_dir
    return os.path.join(settings.home(), "workspaces", name)


def workspaces() -> List[str]:
    """Names of the workspaces of this home."""
    root = os.path.join(settings.home(), "workspaces")
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if os.path.isdir(root) else []


def server_dir(workspace: str) -> str:
    """Folder of the server's lock, address and log."""
    return os.path.join(workspace, "server")


def socket_path(workspace: str) -> str:
    """The Unix socket of the workspace's server; in a short folder of this user when the workspace's is too deep."""
    path = os.path.join(server_dir(workspace), "server.sock")
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(os.path.abspath(workspace))).hexdigest()[:24]
    return os.path.join(_shared_place(settings.runtime_dir()), digest + ".sock")


def private_dir(path: str) -> str:
    """``path`` as a folder that only this user can enter; a link to such a folder will do.

    Raises:
        UserErrorException: somebody else owns it, or it is no folder.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    return _closed_to_others(path, os.stat(path), "Set WINDLASS_HOME to a folder of yours.")


def _shared_place(path: str) -> str:
    """As ``private_dir``, for a folder where everybody can make names: no link is trusted there."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    state = os.lstat(path)
    if stat.S_ISLNK(state.st_mode):
        raise UserErrorException("%s is a link, which anybody may have put there. Remove it." % path)
    return _closed_to_others(path, state, "Remove it, or set WINDLASS_HOME to a folder with a shorter path.")


def _closed_to_others(path: str, state: os.stat_result, way_out: str) -> str:
    if hasattr(os, "getuid") and state.st_uid != os.getuid():
        raise UserErrorException("%s belongs to the user with id %d, not to you. %s" % (path, state.st_uid, way_out))
    if state.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


def interpreter_file() -> str:
    """Where the home records which interpreter its servers run on."""
    return os.path.join(settings.home(), "interpreter.json")
