"""Snapshots that clients have announced and whose contents they are sending: kept over a restart of the server.

Between the list of a snapshot's files and the run that uses it a client makes several calls. A server that is killed
between them must not make the next one say that it has never heard of the snapshot.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)
_KEPT = 256
_KEPT_S = 86_400.0
_NAME = re.compile(r"([0-9a-f]{64})\.json\Z")
Files = Sequence[Mapping[str, Any]]


class Announced:
    """One file each in ``announced/`` of the workspace.

    Of clients that never came back the newest 256 are kept, and over a start those of a day: what they announced is not
    freed.
    """

    def __init__(self, workspace_dir: str) -> None:
        self._folder = os.path.join(workspace_dir, "announced")
        self._known: dict[str, Files] = {}
        for name in self._left():
            path = os.path.join(self._folder, name)
            found = _NAME.match(name)
            try:
                with open(path, encoding="utf-8") as f:
                    files = json.load(f)
            except (OSError, ValueError) as problem:  # torn by a power loss: its client is gone, too
                log.warning("the announcement %s cannot be read: %s", path, problem)
                files = None
            if found and isinstance(files, list) and time.time() - os.path.getmtime(path) < _KEPT_S:
                self._known[found[1]] = files
            else:
                _remove(path)

    def find(self, snapshot_id: str) -> Files | None:
        """The files of an announced snapshot; None when it is not (or is used already)."""
        return self._known.get(snapshot_id)

    def add(self, snapshot_id: str, files: Files) -> None:
        """Remember it in this process."""
        self._known[snapshot_id] = files
        while len(self._known) > _KEPT:
            self.remove(next(iter(self._known)))

    def keep(self, snapshot_id: str) -> None:
        """Remember it over a restart, too; on any thread. It is of use only as long as the client lives: no sync."""
        path = os.path.join(self._folder, snapshot_id + ".json")
        if (files := self._known.get(snapshot_id)) is None or os.path.exists(path):
            return
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with open(path + ".part", "w", encoding="utf-8") as f:
            json.dump([dict(file) for file in files], f)
        os.replace(path + ".part", path)

    def remove(self, snapshot_id: str) -> None:
        """It is written down as a snapshot, or given up."""
        if self._known.pop(snapshot_id, None) is not None:
            _remove(os.path.join(self._folder, snapshot_id + ".json"))

    def contents(self) -> set[str]:
        """Contents that clients were told need not be sent, or are sending."""
        return {file["sha256"] for files in self._known.values() for file in files}

    def _left(self) -> Sequence[str]:
        """Names of the files that are there, oldest first."""
        try:
            with os.scandir(self._folder) as entries:
                return [e.name for e in sorted(entries, key=lambda e: e.stat().st_mtime_ns)]
        except FileNotFoundError:
            return []


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
