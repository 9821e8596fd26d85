"""Secrets by which compute targets' machines let this server in: one protected file each, and nowhere else."""

from __future__ import annotations

import os
import re
import secrets

from windlass._transport.places import server_dir
from windlass.errors import ComputeTargetException

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}\Z")
_LONGEST = 65_536


class Secrets:
    """The secrets of a workspace, by compute target. May be called from any thread.

    Args:
        workspace_dir: The workspace's folder.
    """

    def __init__(self, workspace_dir: str) -> None:
        self._folder = os.path.join(server_dir(workspace_dir), "secrets")

    def find(self, target: str) -> str | None:
        """That of a compute target; None without one."""
        try:
            with open(self._path(target), encoding="utf-8") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def put(self, target: str, secret: object) -> None:
        """Keep one, in place of what was there; None and nothing take it away.

        Raises:
            ComputeTargetException: it is no text, or cannot be one line of it.
        """
        if secret is None or secret == "":
            self.forget(target)
            return
        if not isinstance(secret, str) or len(secret) > _LONGEST or not secret.isprintable():
            raise ComputeTargetException("A token is one line of text.")  # and is not shown
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = self._path(target)
        beside = f"{path}.{secrets.token_hex(6)}"
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as f:
            f.write(secret)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)

    def forget(self, target: str) -> None:
        """Take it away, if there is one."""
        try:
            os.unlink(self._path(target))
        except FileNotFoundError:
            pass

    def _path(self, target: str) -> str:
        if not _NAME.match(target):
            raise ComputeTargetException(f"{target!r} names no compute target.")
        return os.path.join(self._folder, target)
