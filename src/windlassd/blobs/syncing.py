"""Bring files and folders to the disk: one by one, or the whole file system at once when they are many."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection

_SYNCED_ALONE = 64


def sync_path(path: str) -> None:
    """Return when a file, or the names in a folder, would survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(paths: Collection[str]) -> None:
    """As ``sync_path`` for each; many cost one wait for the disk, few do not wait for what other programs wrote."""
    if len(paths) > _SYNCED_ALONE:
        systems = {os.stat(path).st_dev: path for path in paths}
        if all(sync_file_system(path) for path in systems.values()):
            return
    for path in paths:
        sync_path(path)


def sync_file_system(path: str) -> bool:
    """Write out the file system that holds ``path``; False where the system has no such call."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return True
    finally:
        os.close(descriptor)
