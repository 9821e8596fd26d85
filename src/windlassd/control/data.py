"""Datastores and datasets of a workspace: where they lie, their files, their versions, and what runs ask of them."""

from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass.errors import UserErrorException, did_you_mean
from windlass.specs.data import MODES, OUTPUT, DataPlace, DataSpec
from windlass.specs.run import RunRecord, RunSpec
from windlassd.blobs.datastore_folder import DatastoreFolder, parts_of
from windlassd.blobs.handed import kept_copies, wanted
from windlassd.blobs.run_folder import sha256_of
from windlassd.control._receive import receive
from windlassd.control.core import Core
from windlassd.control.views import LocatedFile
from windlassd.store.base import Conflict, DatasetRecord, DatastoreRecord, Reader, Writer

BUILT_IN = ("workspaceblobstore", "workspacefilestore")
"""Every workspace has these, the first of them as its default."""
FOLDER = "datastores"
_DEFAULT = "default_datastore"
_STORE_NAME = re.compile(r"[A-Za-z0-9_]{1,255}\Z")
_DATA_NAME = re.compile(r"[A-Za-z0-9_]{1,255}\Z")
_DATASET_NAME = re.compile(r"[^\x00-\x1f/\\]{1,255}\Z")
_HASHES = 4096


class Data:
    """The workspace's datastores and datasets. Questions may be asked on any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._hashes: dict[tuple[str, int, int], str] = {}

    # Datastores

    def stores(self) -> Mapping[str, Any]:
        """``datastores`` and the name of the ``default`` one."""
        return self._core.read(lambda tx: {
            "datastores": [_shown(tx, s) for s in _stores(tx, self._core)], "default": _default(tx),
        })  # fmt: skip

    def store(self, name: str) -> Mapping[str, Any]:
        """One datastore.

        Raises:
            UserErrorException: there is none; near matches are named.
        """
        return self._core.read(lambda tx: _shown(tx, _store(tx, self._core, name)))

    async def register(self, name: str, path: str, *, overwrite: bool, create: bool) -> Mapping[str, Any]:
        """Make a folder of this machine a datastore.

        Raises:
            UserErrorException: the name or folder cannot be one; Conflict when the name is taken.
        """
        if not _STORE_NAME.match(name):
            raise UserErrorException(f"{name!r} cannot name a datastore: letters, digits and '_', at most 255.")
        if name in BUILT_IN:
            raise Conflict(f"The datastore {name!r} is the workspace's own; choose another name.")
        folder = await asyncio.to_thread(self._checked_folder, name, path, create)

        def work(tx: Writer) -> Mapping[str, Any]:
            if tx.find_datastore(name) is not None and not overwrite:
                raise Conflict(f"There is a datastore {name!r} already. Pass overwrite=True to change it.")
            tx.put_datastore(DatastoreRecord(name, folder, time.time()))
            return _shown(tx, _store(tx, self._core, name))

        return await self._core.write(work)

    async def unregister(self, name: str) -> None:
        """Forget a datastore; its folder and files stay as they are."""
        if name in BUILT_IN:
            raise Conflict(f"The datastore {name!r} is the workspace's own and cannot be unregistered.")

        def work(tx: Writer) -> None:
            _store(tx, self._core, name)
            tx.delete_datastore(name)
            if _default(tx) == name:
                tx.set_meta(_DEFAULT, BUILT_IN[0])

        await self._core.write(work)

    async def make_default(self, name: str) -> Mapping[str, Any]:
        """Make a datastore the workspace's default."""

        def work(tx: Writer) -> Mapping[str, Any]:
            store = _store(tx, self._core, name)
            tx.set_meta(_DEFAULT, name)
            return _shown(tx, store)

        return await self._core.write(work)

    # Files of a datastore

    def files(self, name: str, prefix: str) -> Sequence[Mapping[str, Any]]:
        """``{"path", "size", "modified"}`` of its files whose paths begin with ``prefix``."""
        return self._folder(name).list(prefix)

    def locate(self, name: str, path: str) -> LocatedFile:
        """Where a file's bytes lie, with its checksum."""
        located, sha256, _ = self.checksum(name, path)
        return replace(located, sha256=sha256)

    def find(self, name: str, path: str) -> LocatedFile:
        """Where a file's bytes lie."""
        full = self._folder(name).file(path)
        return LocatedFile(full, os.stat(full).st_size, None)

    def folder(self, name: str) -> str:
        """The datastore's folder on this machine.

        Raises:
            UserErrorException: it is not there.
        """
        return self._folder(name).root

    def checksum(self, name: str, path: str) -> tuple[LocatedFile, str, float]:
        """A file with its SHA-256 and the time of its last change."""
        full = self._folder(name).file(path)
        known = os.stat(full)
        key = (full, known.st_size, known.st_mtime_ns)
        if key not in self._hashes:
            if len(self._hashes) >= _HASHES:
                self._hashes.clear()
            self._hashes[key] = sha256_of(full)
        return LocatedFile(full, known.st_size, None), self._hashes[key], known.st_mtime

    async def upload(
        self, name: str, path: str, chunks: AsyncIterator[bytes], *, overwrite: bool = True
    ) -> Mapping[str, Any]:
        """Keep what arrives as a file of the datastore, whole or not at all.

        Raises:
            Conflict: there is such a file and ``overwrite`` is false.
        """
        target = await asyncio.to_thread(lambda: self._folder(name).target(path))
        if not overwrite and os.path.exists(target):
            raise Conflict(f"The datastore {name!r} has a file {path!r} already.")
        size, sha256 = await receive(target, chunks)
        return {"path": path, "size": size, "sha256": sha256}

    async def copy(self, name: str, files: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any] | None]:
        """Keep copies of files of a client of this machine; returns what each became, None where it is not here."""

        def work() -> Sequence[Mapping[str, Any] | None]:
            folder, handed = self._folder(name), wanted(files)
            return kept_copies(handed, [folder.target(file.path) for file in handed])

        return await asyncio.to_thread(work)

    # Datasets

    def datasets(self, name: str | None = None) -> Sequence[DatasetRecord]:
        """Registered versions, newest first."""
        return self._core.read(lambda tx: tx.datasets(name))

    def dataset(self, name: str, version: str) -> DatasetRecord:
        """A version by number, or ``latest``.

        Raises:
            UserErrorException: there is none.
        """
        number = None if version == "latest" else int(version) if version.isdigit() else -1
        found = self._core.read(lambda tx: tx.find_dataset(name, number))
        if found is not None:
            return found
        versions = [str(d.version) for d in reversed(self.datasets(name))]
        if versions:
            raise UserErrorException(f"The dataset {name!r} has no version {version}; it has {', '.join(versions)}.")
        known = sorted({str(d.name) for d in self.datasets()})
        hint = did_you_mean(name, known) or f" Registered are: {', '.join(known[:20]) or 'none yet'}."
        raise UserErrorException(f"There is no dataset {name!r} in this workspace.{hint}")

    def dataset_by_id(self, dataset_id: str) -> DatasetRecord:
        """A dataset by its id.

        Raises:
            UserErrorException: there is none.
        """
        found = self._core.read(lambda tx: tx.find_dataset_by_id(dataset_id))
        if found is None:
            raise UserErrorException(f"There is no dataset with the id {dataset_id!r} in this workspace.")
        return found

    async def add(self, asked: Mapping[str, Any]) -> DatasetRecord:
        """Register a dataset as the next version of its name; without a name only remember it by its id.

        Raises:
            Conflict: the name is taken and a new version was not asked for.
        """
        name = asked.get("name")
        if name is not None and not _DATASET_NAME.match(name):
            raise UserErrorException(f"{name!r} cannot name a dataset: 1 to 255 characters, without '/' and '\\'.")
        kind, definition = _checked_definition(asked)
        dataset = DatasetRecord(
            id=str(uuid.uuid4()) if name else str(asked["id"]), kind=kind, definition=definition, created=time.time(),
            name=name, description=asked.get("description"), tags=_tags(asked.get("tags")),
        )  # fmt: skip

        def work(tx: Writer) -> DatasetRecord:
            for place in definition["places"]:
                if place.get("datastore") is not None:
                    _store(tx, self._core, place["datastore"])
            latest = tx.find_dataset(name) if name else None
            if latest is None or asked.get("new_version"):
                return tx.add_dataset(dataset)
            if (latest.kind, latest.definition) != (kind, definition):
                raise Conflict(
                    f"There is a dataset {name!r} already (version {latest.version}) with other content. Pass "
                    "create_new_version=True to register another version."
                )
            changes = {k: v for k, v in (("description", dataset.description), ("tags", dataset.tags)) if v}
            return tx.update_dataset(latest.id, time.time(), **changes)

        return await self._core.write(work)

    async def change(self, dataset_id: str, asked: Mapping[str, Any]) -> DatasetRecord:
        """Set description, add and remove tags."""

        def work(tx: Writer) -> DatasetRecord:
            known = tx.find_dataset_by_id(dataset_id)
            if known is None:
                raise UserErrorException(f"There is no dataset with the id {dataset_id!r} in this workspace.")
            tags = {k: v for k, v in known.tags.items() if k not in (asked.get("remove_tags") or ())}
            tags.update(_tags(asked.get("tags")))
            description = known.description if asked.get("description") is None else str(asked["description"])
            return tx.update_dataset(dataset_id, time.time(), tags=tags, description=description)

        return await self._core.write(work)

    async def unregister_dataset(self, name: str) -> int:
        """Take a dataset's name away, with all versions; runs that read them still know them by id."""
        self.dataset(name, "latest")
        return await self._core.write(lambda tx: tx.unregister_dataset(name))

    def _folder(self, name: str) -> DatastoreFolder:
        store = self._core.read(lambda tx: _store(tx, self._core, name))
        if name in BUILT_IN:
            os.makedirs(store.path, mode=0o700, exist_ok=True)
        elif not os.path.isdir(store.path):
            raise UserErrorException(
                f"The folder {store.path} of the datastore {name!r} is not there. Bring it back, or register the "
                "datastore anew with overwrite=True."
            )
        return DatastoreFolder(store.path, f"the datastore {name!r}")

    def _checked_folder(self, name: str, path: str, create: bool) -> str:
        if not os.path.isabs(path) or "\0" in path:
            raise UserErrorException(f"path={path!r} of the datastore {name!r} must be the absolute path of a folder.")
        full = os.path.normpath(path)
        if create:
            os.makedirs(full, exist_ok=True)
        if not os.path.isdir(full):
            raise UserErrorException(
                f"path={path!r} of the datastore {name!r} is no folder of the machine that the server runs on. Make "
                "it, or pass create_if_not_exists=True."
            )
        return full


def check(core: Core, spec: RunSpec) -> None:
    """Refuse data that no run can have.

    Raises:
        UserErrorException: an unknown datastore, kind or mode, or two pieces of data of one name.
    """
    seen: dict[str, DataSpec] = {}
    for data in spec.data:
        if not _DATA_NAME.match(data.name):
            raise UserErrorException(f"{data.name!r} cannot name data of a run: letters, digits and '_', at most 255.")
        if data.mode not in MODES.get(data.kind, ()):
            raise UserErrorException(f"The data {data.name!r} cannot be a {data.kind!r} with mode {data.mode!r}.")
        if seen.setdefault(data.name, data) != data:
            raise UserErrorException(
                f"Two different pieces of data of this run are called {data.name!r}; give one another name."
            )
        for place in data.places:
            if place.datastore is None and not os.path.isabs(place.path):
                raise UserErrorException(f"The path {place.path!r} of the data {data.name!r} must be absolute.")
            if place.datastore is not None:
                name = place.datastore
                core.read(lambda tx, name=name: _store(tx, core, name))  # type: ignore[misc]
                parts_of(place.path, f"the datastore {name!r}")


def resolved(core: Core, spec: RunSpec, run_id: str) -> tuple[DataSpec, ...]:
    """The data of a run with the folders of its datastores; one that is gone has none, which its agent reports."""

    def root(tx: Reader, place: DataPlace) -> DataPlace:
        path = place.path.replace("{run-id}", run_id)
        known = {s.name: s.path for s in _stores(tx, core)}
        if place.datastore in BUILT_IN:
            os.makedirs(known[place.datastore], mode=0o700, exist_ok=True)
        return replace(place, path=path, root=known.get(place.datastore) if place.datastore else None)

    return core.read(
        lambda tx: tuple(replace(d, places=tuple(root(tx, p) for p in d.places)) for d in spec.data)
    ) if spec.data else ()  # fmt: skip


def remember(tx: Writer, spec: RunSpec, now: float) -> None:
    """Keep the datasets that a run reads, so that it and its record can ask for them by id."""
    for data in spec.data:
        if data.dataset.get("id") and tx.find_dataset_by_id(str(data.dataset["id"])) is None:
            kind, definition = _checked_definition(data.dataset)
            tx.add_dataset(DatasetRecord(str(data.dataset["id"]), kind, definition, now))


def register_outputs(tx: Writer, record: RunRecord, now: float) -> None:
    """Register the datasets that a completed run was to make."""
    for data in record.spec.data:
        if data.kind == OUTPUT and data.register:
            places = [
                {"path": p.path.replace("{run-id}", record.id), "datastore": p.datastore} for p in data.places
            ]  # fmt: skip
            asked = data.register
            tx.add_dataset(DatasetRecord(
                id=str(uuid.uuid4()), kind="File", definition={"places": places, "read": {}, "steps": []}, created=now,
                name=str(asked["name"]), description=asked.get("description"), tags=_tags(asked.get("tags")),
                run_id=record.id,
            ))  # fmt: skip


def _stores(tx: Reader, core: Core) -> Sequence[DatastoreRecord]:
    created = float(tx.get_meta("created") or 0)
    own = [DatastoreRecord(name, os.path.join(core.workspace_dir, FOLDER, name), created) for name in BUILT_IN]
    return [*own, *tx.datastores()]


def _store(tx: Reader, core: Core, name: str) -> DatastoreRecord:
    known = {s.name: s for s in _stores(tx, core)}
    if name not in known:
        raise UserErrorException(
            f"There is no datastore {name!r} in this workspace.{did_you_mean(name, known)} It has: "
            f"{', '.join(known)}. Register a folder with Datastore.register_local(ws, name, path)."
        )
    return known[name]


def _default(tx: Reader) -> str:
    return tx.get_meta(_DEFAULT) or BUILT_IN[0]


def _shown(tx: Reader, store: DatastoreRecord) -> Mapping[str, Any]:
    return {
        "name": store.name, "type": store.kind, "path": store.path, "created": store.created,
        "built_in": store.name in BUILT_IN, "default": store.name == _default(tx),
    }  # fmt: skip


def _checked_definition(asked: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    kind, definition = asked.get("type"), asked.get("definition")
    if kind not in ("File", "Tabular") or not isinstance(definition, dict) or not definition.get("places"):
        raise UserErrorException("A dataset needs a type (File or Tabular) and a definition with places.")
    places = [{"path": str(p["path"]), "datastore": p.get("datastore")} for p in definition["places"]]
    return kind, {"places": places, "read": definition.get("read") or {}, "steps": definition.get("steps") or []}


def _tags(given: Any) -> dict[str, str]:
    return {str(k): "" if v is None else str(v) for k, v in (given or {}).items()}
