"""Routes of what users register: models, environments, and what they say of experiments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.control.kinds import refuse_misfits
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.api._http import Json, body_of, file_response


def router(control: WorkspaceControl) -> APIRouter:
    """The routes under ``/v1`` for what has a name and versions."""
    routes = APIRouter(prefix="/v1")
    _models(routes, control)
    _built(routes, control)
    _registries(routes, control)
    _environments(routes, control)
    _experiments(routes, control)
    return routes


def _models(routes: APIRouter, control: WorkspaceControl) -> None:
    models = control.run_models

    @routes.get("/models")
    def listing(
        request: Request, name: str | None = None, run_id: str | None = None, framework: str | None = None,
        dataset_id: str | None = None, latest: bool = False,
    ) -> Json:  # fmt: skip
        tags, properties = ([_pair(text) for text in request.query_params.getlist(key)] for key in ("tag", "property"))
        found = models.list(
            name=name, run_id=run_id, tags=tags, properties=properties, framework=framework, dataset_id=dataset_id,
            latest=latest,
        )  # fmt: skip
        return Json({"models": [to_wire(model) for model in found]})

    @routes.post("/models")
    async def register(request: Request) -> Json:
        return Json(to_wire(await models.register(await body_of(request))))

    @routes.get("/models/{name}/versions/{version}")
    def model(name: str, version: str) -> Json:
        return Json(to_wire(models.get(name, version)))

    @routes.patch("/models/{name}/versions/{version}")
    async def update(name: str, version: str, request: Request) -> Json:
        return Json(to_wire(await models.update(name, version, await body_of(request))))

    @routes.delete("/models/{name}/versions/{version}")
    async def delete(name: str, version: str) -> Json:
        await control.deletions.model(name, models.get(name, version).version)
        return Json({})

    @routes.get("/models/{name}/versions/{version}/files/{path:file}")
    def model_file(name: str, version: str, path: str) -> FileResponse:
        return file_response(models.locate(name, version, path))


def _built(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.get("/environments")
    def environments() -> Json:
        return Json(dict(control.environments.built()))

    @routes.post("/environments/prune")
    async def prune(request: Request) -> Json:
        return Json(dict(await asyncio.to_thread(control.environments.prune, await body_of(request))))

    @routes.get("/environments/{key}")
    def environment(key: str) -> Json:
        return Json(dict(control.environments.show(key)))

    @routes.delete("/environments/{key}")
    async def delete_environment(key: str) -> Json:
        await control.environments.remove(key)
        return Json({})

    @routes.post("/environments/find")
    async def find_environment(request: Request) -> Json:
        spec = _spec(await body_of(request))
        return Json({"ready": await control.environments.find(spec)})

    @routes.post("/environment-builds")
    async def build(request: Request) -> Json:
        body = await body_of(request)
        spec = _spec(body)
        return Json(dict(control.environments.build(spec, refresh=bool(body.get("refresh")))))

    @routes.get("/environment-builds/{build_id}")
    async def watch(build_id: str, line: int = 0, wait_s: float = 0.0) -> Json:
        return Json(dict(await control.environments.watch(build_id, line, wait_s)))


def _registries(routes: APIRouter, control: WorkspaceControl) -> None:
    logins = control.registry_logins

    @routes.get("/registry-logins")
    def listing() -> Json:
        return Json({"logins": list(logins.list())})

    @routes.put("/registry-logins")
    async def put(request: Request) -> Json:
        return Json(dict(await asyncio.to_thread(logins.put, await body_of(request))))

    @routes.delete("/registry-logins/{address:path}")
    def delete(address: str) -> Json:
        logins.delete(address)
        return Json({})


def _environments(routes: APIRouter, control: WorkspaceControl) -> None:
    registry = control.environments

    @routes.get("/registered-environments")
    def listing(name: str | None = None) -> Json:
        return Json({"environments": [to_wire(record) for record in registry.list(name)]})

    @routes.post("/registered-environments/{name}")
    async def register(name: str, request: Request) -> Json:
        body = await body_of(request)
        return Json(to_wire(await registry.register(name, body["definition"], body.get("version"))))

    @routes.get("/registered-environments/{name}")
    def find(name: str, version: str | None = None, label: str | None = None) -> Json:
        return Json(to_wire(registry.get(name, version, label)))

    @routes.put("/registered-environments/{name}/versions/{version}/labels")
    async def label(name: str, version: str, request: Request) -> Json:
        return Json(to_wire(await registry.label(name, version, (await body_of(request))["labels"])))


def _experiments(routes: APIRouter, control: WorkspaceControl) -> None:
    @routes.patch("/experiments/{name}")
    async def patch(name: str, request: Request) -> Json:
        return Json(dict(await control.experiment_facts.patch(name, await body_of(request))))

    @routes.delete("/experiments/{name}")
    async def delete(name: str) -> Json:
        return Json(dict(await control.deletions.experiment(name)))


def _spec(body: Mapping[str, Any]) -> EnvironmentSpec:
    refuse_misfits(EnvironmentSpec, body["spec"], "spec")
    return EnvironmentSpec.from_wire(body["spec"])


def _pair(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None
