"""``lost+found`` in a workspace: what the doctor takes out of the way and may not delete."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping
from typing import Any

_INDEX = "index.jsonl"


class LostAndFound:
    """Each repair of a moment gets a folder by its time; ``index.jsonl`` says what came from where."""

    def __init__(self, workspace_dir: str) -> None:
        self.root = os.path.join(workspace_dir, "lost+found")
        self._workspace_dir = workspace_dir
        self._folder = os.path.join(self.root, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))

    def take(self, path: str, code: str) -> str:
        """Move a file or folder of the workspace here; returns where it lies now."""
        target = self._free(os.path.relpath(path, self._workspace_dir))
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        os.rename(path, target)
        self._note({"code": code, "from": path, "kept": target})
        return target

    def link(self, path: str, code: str) -> None:
        """Give a file a second name here, so that it outlives what is about to take its place."""
        target = self._free(os.path.relpath(path, self._workspace_dir))
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        os.link(path, target)
        self._note({"code": code, "from": path, "kept": target})

    def keep(self, code: str, what: Mapping[str, Any]) -> None:
        """Write down a row of the database, or a part of one, that is about to go."""
        self._note({"code": code, "row": {key: _plain(value) for key, value in what.items()}})

    def _free(self, relative: str) -> str:
        target = wanted = os.path.join(self._folder, relative)
        number = 1
        while os.path.lexists(target):
            target, number = f"{wanted}.{number}", number + 1
        return target

    def _note(self, entry: Mapping[str, Any]) -> None:
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        with open(os.path.join(self.root, _INDEX), "a", encoding="utf-8") as index:
            index.write(json.dumps({"time": time.time(), **entry}) + "\n")
            index.flush()
            os.fsync(index.fileno())


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
