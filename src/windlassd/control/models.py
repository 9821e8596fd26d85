"""Models: versions of files that runs kept, copied so that they outlive the run."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.errors import ModelNotFoundException, ModelPathNotFoundException, UserErrorException, did_you_mean
from windlassd.control.core import Core
from windlassd.control.views import LocatedFile
from windlassd.store.base import ModelRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")


class Models:
    """The workspace's models."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def register(self, asked: Mapping[str, Any]) -> ModelRecord:
        """A new version made of the run's files at ``path`` (a file, or a folder with everything below it).

        Raises:
            ModelPathNotFoundException: the run has nothing there; the message names what it has.
        """
        name, run_id = asked["name"], asked["run_id"]
        if not _NAME.match(name):
            raise UserErrorException(f"{name!r} cannot name a model: letters, digits, '_', '-' and '.', at most 255.")
        run = self._core.read(lambda tx: tx.get_run(run_id))
        path = (asked.get("path") or name).strip("/")
        files = await asyncio.to_thread(self._copy, run_id, path)
        digest = hashlib.sha256("".join(f"{f['path']}\0{f['sha256']}\n" for f in files).encode()).hexdigest()
        model = ModelRecord(
            name=name, version=0, created=time.time(), run_id=run_id, path=path, tags=asked.get("tags") or {},
            properties=asked.get("properties") or {}, description=asked.get("description"),
            framework=asked.get("framework"), framework_version=asked.get("framework_version"),
            size=sum(f["size"] for f in files), sha256=files[0]["sha256"] if len(files) == 1 else digest,
            snapshot_id=run.spec.snapshot_id, environment_key=run.environment.get("key"), files=files,
        )  # fmt: skip
        return await self._core.write(lambda tx: tx.add_model(model))

    def get(self, name: str, version: str) -> ModelRecord:
        """A version by number, or ``latest``."""
        number = None if version == "latest" else int(version) if version.isdigit() else -1
        found = self._core.read(lambda tx: tx.find_model(name, number))
        if found is None:
            raise ModelNotFoundException(self._absent(name, version))
        return found

    def locate(self, name: str, version: str, path: str) -> LocatedFile:
        """Where the bytes of one of its files lie."""
        model = self.get(name, version)
        file = next((f for f in model.files if f["path"] == path), None)
        stored = self._core.blobs.path(file["sha256"]) if file else None
        if file is None or stored is None:
            known = [f["path"] for f in model.files]
            raise UserErrorException(
                f"Version {model.version} of the model {name!r} has no file {path!r}.{did_you_mean(path, known)}"
            )
        return LocatedFile(stored, file["size"], file["sha256"])

    def _absent(self, name: str, version: str) -> str:
        versions = [m.version for m in self._core.read(lambda tx: tx.models(name))]
        if versions:
            return f"The model {name!r} has no version {version}; it has {', '.join(map(str, sorted(versions)))}."
        known = sorted({m.name for m in self._core.read(lambda tx: tx.models())})
        return f"There is no model {name!r}.{did_you_mean(name, known)} Known: {', '.join(known[:20]) or 'none yet'}."

    def _copy(self, run_id: str, path: str) -> Sequence[Mapping[str, Any]]:
        folder = self._core.folder(run_id)
        present = [str(f["path"]) for f in folder.list()]
        chosen = [p for p in present if p == path] or [p for p in present if p.startswith(path + "/")]
        if not chosen:
            hint = did_you_mean(path, present) or f" It has: {', '.join(present[:10]) or 'nothing yet'}."
            raise ModelPathNotFoundException(
                f"The run {run_id} has no file or folder {path!r} to register as a model.{hint}"
            )
        base = len(path.rpartition("/")[0]) + 1 if "/" in path else 0
        copied = []
        for name in chosen:
            sha256, size = self._core.blobs.put_file(folder.get(name))
            copied.append({"path": name[base:], "size": size, "sha256": sha256})
        return copied
