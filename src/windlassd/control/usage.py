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
    runs = os.path.join(root, "runs")
    sizes = {entry.name: bytes_on_disk(entry.path) for entry in os.scandir(runs)} if os.path.isdir(runs) else {}
    space = core.store.space()
    named = {
        "database_bytes": space.bytes,
        "runs_bytes": sum(sizes.values()),
        "contents_bytes": bytes_on_disk(os.path.join(root, "blobs")),
        "datastores_bytes": bytes_on_disk(os.path.join(root, DATASTORES)),
    }
    total = bytes_on_disk(root)
    biggest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:BIGGEST]
    return {
        "total_bytes": total,
        **named,
        "other_bytes": max(0, total - sum(named.values())),
        "environments_bytes": bytes_on_disk(os.path.join(settings.home(), "environments")),
        "left_bytes": shutil.disk_usage(root).free,
        "biggest": [{"id": run_id, "bytes": size} for run_id, size in biggest],
    }
