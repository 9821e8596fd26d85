"""Proof that a node sees a folder of this machine: a file that is written there just now, for the node to read."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any

from windlass.specs.data import fixed_part, is_pattern
from windlassd.blobs.datastore_folder import PART

KEPT_S = 120.0
"""Seconds after which a probe goes that nobody took away."""
_NAME = ".windlass-probe-"


class Probes:
    """Writes probes and takes them away. On the event loop."""

    def __init__(self) -> None:
        self._there: dict[str, str] = {}

    async def write(self, owner: str, folder: str) -> Mapping[str, Any]:
        """Write a probe into a folder, or the nearest above it that exists.

        Args:
            owner: Who may take it away.
            folder: Absolute path.

        Returns:
            ``{"id", "path", "content"}``; a ``path`` of None when it cannot be written, with the reason ``why``.
        """
        probe, content = secrets.token_hex(16), secrets.token_hex(32)
        try:
            path = await asyncio.to_thread(_written, folder, probe, content)
        except OSError as problem:
            return {"id": probe, "path": None, "why": str(problem.strerror or problem)}
        self._there[f"{owner}/{probe}"] = path
        asyncio.get_running_loop().call_later(KEPT_S, self._remove, f"{owner}/{probe}")
        return {"id": probe, "path": path, "content": content}

    async def remove(self, owner: str, probe: str) -> None:
        """Take a probe of that owner away; nothing happens when it is gone."""
        self._remove(f"{owner}/{probe}")

    def _remove(self, key: str) -> None:
        path = self._there.pop(key, None)
        if path is not None:
            _unlink(path)


def folder_of(path: str) -> str:
    """The folder in which a probe for a path or pattern belongs."""
    return (fixed_part(path) or "/") if is_pattern(path) else path


def _written(folder: str, probe: str, content: str) -> str:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    _remove_old(folder)
    path = os.path.join(folder, f"{_NAME}{probe}{PART}")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="ascii") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    return path


def _remove_old(folder: str) -> None:
    """Remove what a server that was killed left there."""
    for entry in os.scandir(folder):
        try:
            if entry.name.startswith(_NAME) and time.time() - entry.stat(follow_symlinks=False).st_mtime > KEPT_S:
                _unlink(entry.path)
        except FileNotFoundError:
            continue


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # somebody else removed it, or the folder
        pass
