"""What a part needs from the server on its node: its snapshot, the contents of that, and its datastores' files."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, StreamingResponse

from windlass.errors import UserErrorException
from windlassd.blobs.datastore_folder import DatastoreFolder
from windlassd.control.probes import Probes, folder_of
from windlassd.control.tokens import Holder
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.agents.call import Refused
from windlassd.server.agents.guard import HOLDER
from windlassd.server.api._http import Json, body_of, file_response

_HEAD = struct.Struct("<Q32s")
_CHUNK_BYTES = 1 << 20
_SMALL_BYTES = 64 << 10
SMALL_BYTES = 1 << 20
"""Files of a datastore up to this size are sent many at a time."""
_MOST_FILES = 4096
_NOT_SENT = (1 << 64) - 1


def router(control: WorkspaceControl) -> APIRouter:
    """The routes of an agent that are not those of the local one."""
    routes = APIRouter(prefix="/agent/v1/{name}")
    _snapshots(routes, control)
    _datastores(routes, control)
    _probes(routes, control)
    return routes


def _snapshots(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.get("/snapshots/{snapshot_id}")
    def snapshot(name: str, snapshot_id: str) -> Json:
        return Json({"files": [dict(f) for f in _files(control, snapshot_id)]})

    @routes.post("/blobs")
    async def blobs(name: str, request: Request) -> StreamingResponse:
        hashes = (await body_of(request))["hashes"]
        holder: Holder = request.scope[HOLDER]
        paths = _places(control, hashes, _contents(control, holder.run_id))
        return StreamingResponse(_octets(paths), media_type="application/octet-stream")


def _datastores(routes: APIRouter, control: WorkspaceControl) -> None:
    data = control.data

    @routes.get("/datastores/{store}/files")
    def files(name: str, store: str, prefix: str = "") -> Json:
        return Json({"files": [dict(f) for f in data.files(store, prefix)]})

    @routes.get("/datastores/{store}/files/{path:file}")
    def file(name: str, store: str, path: str) -> FileResponse:
        return file_response(data.find(store, path))

    @routes.get("/datastores/{store}/checksums/{path:file}")
    def checksum(name: str, store: str, path: str) -> Json:
        found, sha256, modified = data.checksum(store, path)
        return Json({"sha256": sha256, "size": found.size, "modified": modified})

    @routes.post("/datastores/{store}/contents")
    async def contents(name: str, store: str, request: Request) -> StreamingResponse:
        paths = (await body_of(request)).get("paths")
        if not isinstance(paths, list) or len(paths) > _MOST_FILES or not all(isinstance(p, str) for p in paths):
            raise UserErrorException(f"`paths` must be a list of at most {_MOST_FILES} paths.")
        folder = DatastoreFolder(data.folder(store), f"the datastore {store!r}")
        return StreamingResponse(_small_files(folder, paths), media_type="application/octet-stream")

    @routes.put("/datastores/{store}/files/{path:file}")
    async def upload(name: str, store: str, path: str, request: Request, overwrite: bool = True) -> Json:
        return Json(await data.upload(store, path, request.stream(), overwrite=overwrite))


def _probes(routes: APIRouter, control: WorkspaceControl) -> None:
    probes = Probes()

    @routes.post("/probes")
    async def write(name: str, request: Request) -> Json:
        asked = await body_of(request)
        store = asked.get("datastore")
        folder = folder_of(asked["path"]) if store is None else control.data.folder(store)
        return Json(await probes.write(name, folder))

    @routes.delete("/probes/{probe}")
    async def remove(name: str, probe: str) -> Json:
        await probes.remove(name, probe)
        return Json({})


def _small_files(folder: DatastoreFolder, paths: Sequence[str]) -> Iterator[bytes]:
    """Size, hash and content of each; a size that no file has for those that are gone or not small."""
    held = bytearray()
    for path in paths:
        try:
            with open(folder.place(path), "rb") as f:
                content = f.read(SMALL_BYTES + 1)
        except (OSError, UserErrorException):
            content = bytes(SMALL_BYTES + 1)
        if len(content) > SMALL_BYTES:
            held += _HEAD.pack(_NOT_SENT, bytes(32))
        else:
            held += _HEAD.pack(len(content), hashlib.sha256(content).digest()) + content
        if len(held) >= _CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _files(control: WorkspaceControl, snapshot_id: str) -> Sequence[Any]:
    files = control.core.read(lambda tx: tx.find_snapshot(snapshot_id))
    if files is None:
        raise UserErrorException(f"There is no snapshot {snapshot_id!r}.")
    return files


def _contents(control: WorkspaceControl, run_id: str) -> Collection[str]:
    """Hashes of what the snapshots of the run have."""
    record = control.core.read(lambda tx: tx.get_run(run_id))
    return {str(f["sha256"]) for snapshot in record.spec.snapshots for f in _files(control, snapshot)}


def _places(control: WorkspaceControl, hashes: Any, allowed: Collection[str]) -> Sequence[tuple[str, str]]:
    """(hash, path) of each, all of them known to be there before the answer begins."""
    if not isinstance(hashes, list):
        raise UserErrorException("`hashes` must be a list.")
    found = []
    for sha256 in hashes:
        if sha256 not in allowed:
            raise Refused("An agent may have the contents of its own run's snapshot, and no others.")
        path = control.core.blobs.path(sha256)
        if path is None:
            raise UserErrorException(
                f"The content {sha256} of its source folder is not stored any more. Submit the folder again, and see "
                "`windlass doctor`."
            )
        found.append((sha256, path))
    return found


def _octets(places: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    """Size, hash and content of each, one after the other; small ones together, big ones in pieces."""
    held = bytearray()
    for sha256, path in places:
        with open(path, "rb") as content:
            size = os.fstat(content.fileno()).st_size
            held += _HEAD.pack(size, bytes.fromhex(sha256))
            if size <= _SMALL_BYTES:
                held += content.read()
            else:
                yield bytes(held)
                held.clear()
                while chunk := content.read(_CHUNK_BYTES):
                    yield chunk
        if len(held) >= _CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
