"""Where a workspace lies on disk and where its server listens; shared by clients, server and agent."""

from __future__ import annotations

import hashlib
import os
import re
from typing import List

from windlass import settings
from windlass.errors import UserErrorException

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes


def workspace_dir(name: str) -> str:
    """The folder of a local workspace under the home; it need not exist.

    Raises:
        UserErrorException: the name could not be a folder's.
    """
    if not _NAME.match(name):
        raise UserErrorException(
            "%r cannot name a workspace: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit."
            % name
        )
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
    return os.path.join(private_dir(settings.runtime_dir()), digest + ".sock")


def private_dir(path: str) -> str:
    """``path`` as a folder that only this user can enter.

    Raises:
        UserErrorException: somebody else owns it.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    state = os.lstat(path)
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or not os.path.isdir(path) or os.path.islink(path)):
        raise UserErrorException("%s belongs to somebody else; set XDG_RUNTIME_DIR to a folder of yours." % path)
    if state.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


def interpreter_file() -> str:
    """Where the home records which interpreter its servers run on."""
    return os.path.join(settings.home(), "interpreter.json")
