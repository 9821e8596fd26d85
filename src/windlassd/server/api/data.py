"""Routes of datastores, their files, and datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from windlass.specs._codec import to_wire
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of, file_response
from windlassd.store.base import DatasetRecord


def router(control: WorkspaceControl) -> APIRouter:
    """The routes under ``/v1/datastores`` and ``/v1/datasets``."""
    routes = APIRouter(prefix="/v1")
    _datastores(routes, control)
    _datasets(routes, control)
    return routes


def _datastores(routes: APIRouter, control: WorkspaceControl) -> None:
    data = control.data

    @routes.get("/datastores")
    def listing() -> Json:
        return Json(data.stores())

    @routes.put("/default-datastore")
    async def make_default(request: Request) -> Json:
        return Json(await data.make_default(str((await body_of(request))["name"])))

    @routes.get("/datastores/{name}")
    def get(name: str) -> Json:
        return Json(data.store(name))

    @routes.put("/datastores/{name}")
    async def register(name: str, request: Request) -> Json:
        body = await body_of(request)
        asked = {key: bool(body.get(key)) for key in ("overwrite", "create")}
        return Json(await data.register(name, str(body["path"]), **asked))

    @routes.delete("/datastores/{name}")
    async def unregister(name: str) -> Json:
        await data.unregister(name)
        return Json({})

    @routes.get("/datastores/{name}/files")
    def files(name: str, prefix: str = "") -> Json:
        return Json({"files": [dict(f) for f in data.files(name, prefix)]})

    @routes.get("/datastores/{name}/files/{path:file}")
    def file(name: str, path: str) -> FileResponse:
        return file_response(data.locate(name, path))

    @routes.put("/datastores/{name}/files/{path:file}")
    async def upload(name: str, path: str, request: Request, overwrite: bool = True) -> Json:
        return Json(await data.upload(name, path, request.stream(), overwrite=overwrite))

    @routes.post("/datastores/{name}/copies")
    async def copy(name: str, request: Request) -> Json:
        return Json({"files": await data.copy(name, (await body_of(request))["files"])})


def _datasets(routes: APIRouter, control: WorkspaceControl) -> None:
    data = control.data

    @routes.get("/datasets")
    def listing(name: str | None = None) -> Json:
        return Json({"datasets": [shown(d) for d in data.datasets(name)]})

    @routes.post("/datasets")
    async def add(request: Request) -> Json:
        return Json(shown(await data.add(await body_of(request))))

    @routes.get("/datasets/{dataset_id}")
    def get(dataset_id: str) -> Json:
        return Json(shown(data.dataset_by_id(dataset_id)))

    @routes.patch("/datasets/{dataset_id}")
    async def change(dataset_id: str, request: Request) -> Json:
        return Json(shown(await data.change(dataset_id, await body_of(request))))

    @routes.get("/dataset-names/{name}/versions/{version}")
    def by_name(name: str, version: str) -> Json:
        return Json(shown(data.dataset(name, version)))

    @routes.delete("/dataset-names/{name}")
    async def unregister(name: str) -> Json:
        return Json({"versions": await data.unregister_dataset(name)})


def shown(dataset: DatasetRecord) -> Mapping[str, Any]:
    """A dataset as the wire has it."""
    found: dict[str, Any] = to_wire(dataset)
    found["type"] = found.pop("kind")
    return found
