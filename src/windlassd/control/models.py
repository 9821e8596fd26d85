"""Models: versions of files, from what a run kept or from a client, held by content so that they outlive both."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass.errors import ModelNotFoundException, ModelPathNotFoundException, UserErrorException, did_you_mean
from windlass.specs.data import INPUT
from windlass.specs.run import RunRecord
from windlassd.blobs import snapshots
from windlassd.control.core import Core
from windlassd.control.views import LocatedFile
from windlassd.store.base import Conflict, ModelRecord, Writer

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_LONGEST_KEY, _LONGEST_VALUE = 255, 65_536


class Models:
    """The workspace's models."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def register(self, asked: Mapping[str, Any]) -> ModelRecord:
        """A new version of the files a client sent (``files``), or of what a run keeps at ``path``.

        Raises:
            ModelPathNotFoundException: the run has nothing there; the message names what it has.
            UserErrorException: (``model_content_missing``) a content was never sent, or is gone: send it and repeat.
        """
        request_id = asked.get("request_id")
        if request_id and (seen := self._core.read(lambda tx: tx.model_of_request(request_id))):
            return seen
        model, run = self._described(asked)
        if asked.get("files") is not None:
            files = await asyncio.to_thread(self._sent, asked["files"])
            return await self._keep(model, files)
        if run is None:
            raise UserErrorException("A model is registered from a run (run_id and path) or from files that were sent.")
        for _ in range(2):  # twice when somebody deleted another model of the same content in between
            files = await asyncio.to_thread(self._copy, run.id, model.path)
            try:
                return await self._keep(model, files)
            except _ContentMissing:
                continue
        raise _ContentMissing(f"The files of {run.id} at {model.path!r} could not be kept; register again.")

    def get(self, name: str, version: str) -> ModelRecord:
        """A version by number, or ``latest``."""
        number = None if version == "latest" else int(version) if version.isdigit() else -1
        found = self._core.read(lambda tx: tx.find_model(name, number))
        if found is None:
            raise ModelNotFoundException(self._absent(name, version))
        return found

    def list(
        self, *, name: str | None = None, run_id: str | None = None, tags: Sequence[tuple[str, str | None]] = (),
        properties: Sequence[tuple[str, str | None]] = (), framework: str | None = None, dataset_id: str | None = None,
        latest: bool = False,
    ) -> Sequence[ModelRecord]:  # fmt: skip
        """Versions that fit all filters, newest first; ``latest`` keeps of each name the highest that fits."""
        found = [
            model
            for model in self._core.read(lambda tx: tx.models(name, run_id))
            if _has(model.tags or {}, tags)
            and _has(model.properties or {}, properties)
            and framework in (None, model.framework)
            and (dataset_id is None or any(d["id"] == dataset_id for d in model.datasets))
        ]
        if not latest:
            return found
        highest: dict[str, ModelRecord] = {}
        for model in found:
            if model.name not in highest or highest[model.name].version < model.version:
                highest[model.name] = model
        return [model for model in found if highest[model.name] is model]

    async def update(self, name: str, version: str, changes: Mapping[str, Any]) -> ModelRecord:
        """Change what is said of a version; ``changes`` are those of the wire.

        Raises:
            Conflict: a property has another value already.
        """
        number = self.get(name, version).version
        _check_texts("tag", {**(changes.get("set_tags") or {}), **(changes.get("tags") or {})})
        _check_texts("property", changes.get("properties") or {})
        return await self._core.write(lambda tx: _changed(tx, name, number, changes))

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

    def _described(self, asked: Mapping[str, Any]) -> tuple[ModelRecord, RunRecord | None]:
        name, run_id = asked["name"], asked.get("run_id")
        if not _NAME.match(name):
            raise UserErrorException(f"{name!r} cannot name a model: letters, digits, '_', '-' and '.', at most 255.")
        _check_texts("tag", asked.get("tags") or {})
        _check_texts("property", asked.get("properties") or {})
        run = self._core.read(lambda tx: tx.get_run(run_id)) if run_id else None
        model = ModelRecord(
            name=name, version=0, created=time.time(), run_id=run_id, path=(asked.get("path") or name).strip("/"),
            tags=asked.get("tags") or {}, properties=asked.get("properties") or {},
            snapshot_id=run.spec.snapshot_id if run else None,
            environment_key=run.environment.get("key") if run else None,
            datasets=tuple(asked.get("datasets") or (_inputs(run) if run else ())),
            description=asked.get("description"), framework=asked.get("framework"),
            framework_version=asked.get("framework_version"), sample_input=asked.get("sample_input"),
            sample_output=asked.get("sample_output"), resources=asked.get("resources"),
            created_by=asked.get("created_by"), request_id=asked.get("request_id"),
        )  # fmt: skip
        return model, run

    async def _keep(self, model: ModelRecord, files: Sequence[Mapping[str, Any]]) -> ModelRecord:
        digest = hashlib.sha256("".join(f"{f['path']}\0{f['sha256']}\n" for f in files).encode()).hexdigest()
        model = replace(
            model, size=sum(f["size"] for f in files), sha256=files[0]["sha256"] if len(files) == 1 else digest,
            files=files,
        )  # fmt: skip
        hashes = sorted({f["sha256"] for f in files})
        async with self._core.keeping:
            missing = await asyncio.to_thread(self._core.blobs.missing, hashes)
            if missing:
                raise _ContentMissing(f"{len(missing)} contents of the model {model.name!r} are not here. Send them.")
            return await self._core.write(lambda tx: tx.add_model(model))

    def _sent(self, files: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The files as they are kept: checked names, and the sizes of what is really here."""
        if not files:
            raise UserErrorException("A model needs at least one file.")
        snapshots.check_manifest([{**file, "mode": 0o644} for file in files])
        kept = []
        for file in sorted(files, key=lambda file: str(file["path"])):
            stored = self._core.blobs.path(file["sha256"])
            if stored is None:
                raise _ContentMissing(f"The content of {file['path']!r} is not here. Send it, then register again.")
            kept.append({"path": file["path"], "size": os.path.getsize(stored), "sha256": file["sha256"]})
        return kept

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

    def _absent(self, name: str, version: str) -> str:
        versions = [m.version for m in self._core.read(lambda tx: tx.models(name))]
        if versions:
            return f"The model {name!r} has no version {version}; it has {', '.join(map(str, sorted(versions)))}."
        known = sorted({m.name for m in self._core.read(lambda tx: tx.models())})
        return f"There is no model {name!r}.{did_you_mean(name, known)} Known: {', '.join(known[:20]) or 'none yet'}."


class _ContentMissing(UserErrorException):
    """A content that a new version needs is not stored."""

    error_code = "model_content_missing"


def _inputs(run: RunRecord) -> Sequence[Mapping[str, Any]]:
    """The registered datasets that a run read, by the names it gave them."""
    read = [data for data in run.spec.data if data.kind == INPUT and data.dataset.get("name")]
    return [{"name": data.name, "id": data.dataset["id"]} for data in read]


def _changed(tx: Writer, name: str, number: int, changes: Mapping[str, Any]) -> ModelRecord:
    model = tx.find_model(name, number)
    if model is None:
        raise ModelNotFoundException(f"The model {name!r} has no version {number}.")
    columns = {
        key: changes[key] for key in ("description", "sample_input", "sample_output", "resources") if key in changes
    }
    if any(key in changes for key in ("set_tags", "tags", "remove_tags")):
        tags = dict(changes["set_tags"] if changes.get("set_tags") is not None else model.tags or {})
        gone = set(changes.get("remove_tags") or ())
        columns["tags"] = {key: value for key, value in tags.items() if key not in gone} | (changes.get("tags") or {})
    if changes.get("properties"):
        known = model.properties or {}
        for key, value in changes["properties"].items():
            if known.get(key, value) != value:
                raise Conflict(
                    f"The property {key!r} of {name}:{number} is {known[key]!r}; properties do not change. Use a tag."
                )
        columns["properties"] = {**known, **changes["properties"]}
    if changes.get("datasets"):
        columns["datasets"] = [*model.datasets, *(d for d in changes["datasets"] if d not in model.datasets)]
    return tx.update_model(name, number, **columns)


def _has(values: Mapping[str, str], wanted: Sequence[tuple[str, str | None]]) -> bool:
    return all(key in values and value in (None, values[key]) for key, value in wanted)


def _check_texts(what: str, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if not key or len(key) > _LONGEST_KEY or not isinstance(value, str) or len(value) > _LONGEST_VALUE:
            raise UserErrorException(
                f"The {what} {key[:60]!r} cannot be kept: its name needs 1 to {_LONGEST_KEY} characters, its value is "
                f"text of at most {_LONGEST_VALUE}."
            )
