"""Routes of what runs need: compute targets and their sizes, snapshots, blobs."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from windlass.errors import SnapshotException, UserErrorException
from windlassd.blobs.handed import shown, wanted
from windlassd.control.views import LocatedFile
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of, file_response

_BLOB = struct.Struct("<Q32s")
_TOGETHER = 16 << 20
_MOST_LISTED = 1000


def router(control: WorkspaceControl) -> APIRouter:
    """The routes under ``/v1`` that are not about one run."""
    routes = APIRouter(prefix="/v1")
    _compute(routes, control)
    _snapshots(routes, control)
    return routes


def _compute(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.get("/computes")
    async def computes() -> Json:
        return Json({"computes": list(control.clusters.list())})

    @routes.get("/computes/{name}")
    async def compute(name: str) -> Json:
        return Json(control.clusters.get(name))

    @routes.get("/computes/{name}/nodes")
    async def nodes(name: str) -> Json:
        return Json({"nodes": list(control.clusters.nodes(name))})

    @routes.get("/computes/{name}/queue")
    async def queue(name: str, limit: int = 100) -> Json:
        return Json(control.clusters.queue(name, max(1, min(limit, _MOST_LISTED))))

    @routes.put("/computes/{name}")
    async def put_compute(name: str, request: Request) -> Json:
        return Json(await control.clusters.put({**await body_of(request), "name": name}))

    @routes.put("/computes/{name}/token")
    async def put_token(name: str, request: Request) -> Json:
        await control.clusters.put_secret(name, (await body_of(request)).get("token"))
        return Json({})

    @routes.delete("/computes/{name}")
    async def delete_compute(name: str) -> Json:
        await control.clusters.delete(name)
        return Json({})

    @routes.get("/vm-sizes")
    def sizes() -> Json:
        return Json({"sizes": list(control.clusters.sizes.describe())})

    @routes.put("/vm-sizes/{name}")
    async def define_size(name: str, request: Request) -> Json:
        return Json(await control.clusters.sizes.define(name, await body_of(request)))

    @routes.delete("/vm-sizes/{name}")
    async def forget_size(name: str) -> Json:
        await control.clusters.sizes.forget(name)
        return Json({})


def _snapshots(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.post("/snapshots")
    async def announce(request: Request) -> Json:
        return Json(await control.take_snapshot((await body_of(request))["files"]))

    @routes.get("/snapshots/{snapshot_id}")
    def snapshot(snapshot_id: str) -> Json:
        files = control.core.read(lambda tx: tx.find_snapshot(snapshot_id))
        if files is None:
            raise UserErrorException(f"There is no snapshot {snapshot_id!r}.")
        return Json({"id": snapshot_id, "files": [dict(f) for f in files]})

    @routes.post("/blobs")
    async def put_blobs(request: Request) -> Json:
        blobs = control.core.blobs
        stored, size = 0, 0
        held: list[tuple[str, Sequence[bytes]]] = []
        async for sha256, content in _blobs(request.stream()):
            held.append((sha256, [content]))
            size += len(content)
            if size >= _TOGETHER:
                stored += await asyncio.to_thread(blobs.put_many, held)
                held, size = [], 0
        return Json({"stored": stored + await asyncio.to_thread(blobs.put_many, held)})

    @routes.post("/blob-copies")
    async def copy_blobs(request: Request) -> Json:
        handed = wanted((await body_of(request))["files"])
        copies = await asyncio.to_thread(control.core.blobs.put_handed, handed)
        return Json({"files": [shown(file, copies.get(number)) for number, file in enumerate(handed)]})

    @routes.post("/blobs/missing")
    async def missing(request: Request) -> Json:
        hashes = (await body_of(request))["hashes"]
        return Json({"missing": list(await asyncio.to_thread(control.core.blobs.missing, hashes))})

    @routes.put("/blobs/{sha256}")
    async def put_piece(sha256: str, request: Request, offset: int, size: int) -> Json:
        return Json(dict(await control.uploads.add(sha256, offset, size, await request.body())))

    @routes.get("/blobs/{sha256}")
    def blob(sha256: str) -> FileResponse:
        path = control.core.blobs.path(sha256)
        if path is None:
            raise UserErrorException(f"There is no blob {sha256!r}.")
        return file_response(LocatedFile(path, 0, sha256))


async def _blobs(stream: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, bytes]]:
    """The ``(hash, content)`` pairs of a request."""
    buffer = bytearray()
    async for chunk in stream:
        buffer += chunk
        while len(buffer) >= _BLOB.size:
            size, digest = _BLOB.unpack_from(buffer)
            end = _BLOB.size + size
            if len(buffer) < end:
                break
            content = bytes(buffer[_BLOB.size : end])
            del buffer[:end]
            yield digest.hex(), content
    if buffer:
        raise SnapshotException("The upload of the source folder was cut short; submit again.")
