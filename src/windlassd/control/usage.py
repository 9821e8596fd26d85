"""Where the room of a workspace goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from windlass import settings
from windlassd.blobs.room import bytes_on_disk
from windlassd.control.core import Core
from windlassd.control.data import FOLDER as DATASTORES

BIGGEST = 10


def usage(core: Core) -> Mapping[str, Any]:
    """Bytes on disk of each part, the ``biggest`` runs by their folders, and what the disk has ``left``. Reads it all.

    ``environments_bytes`` belong to the home: its workspaces share them.
    """
    root = core.workspace_dir
    seen: set[tuple[int, int]] = set()
    sizes = {name: bytes_on_disk(path, seen=seen) for name, path in _below(os.path.join(root, "runs"))}
    parts = {name: bytes_on_disk(path, seen=seen) for name, path in _below(root) if name != "runs"}
    database = core.store.space().bytes
    named = {
        "database_bytes": database,
        "runs_bytes": sum(sizes.values()),
        "contents_bytes": parts.get("blobs", 0),
        "datastores_bytes": parts.get(DATASTORES, 0),
    }
    total = sum(sizes.values()) + sum(parts.values())
    biggest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:BIGGEST]
    return {
        "total_bytes": total,
        **named,
        "other_bytes": max(0, total - sum(named.values())),
        "environments_bytes": bytes_on_disk(os.path.join(settings.home(), "environments")),
        "left_bytes": shutil.disk_usage(root).free,
        "biggest": [{"id": run_id, "bytes": size} for run_id, size in biggest],
    }


def _below(folder: str) -> list[tuple[str, str]]:
    try:
        return [(entry.name, entry.path) for entry in os.scandir(folder)]
    except FileNotFoundError:  # a new workspace has no runs
        return []
