"""A server of its own process that takes files as the listener for agents does: ``shipping_server.py WORKSPACE_DIR``.

It has the run ``run_1``, and answers on the workspace's socket until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvicorn
import uvloop
from fastapi import FastAPI, Request

from windlass._transport.places import server_dir, socket_path
from windlass.specs.launch import PartKey
from windlass.specs.run import RunSpec
from windlassd.blobs.files import FileBlobStore
from windlassd.control.bus import Bus
from windlassd.control.core import Core
from windlassd.control.shipped import Shipped
from windlassd.envs.cache import EnvironmentCache
from windlassd.server.api._http import install_error_handlers
from windlassd.server.api.shipping import router
from windlassd.store.sql import SqlStore
from windlassd.testing.engine_suite import RecordingLink

_SNAPSHOT = "5" * 64


def allow(request: Request, name: str, key: PartKey) -> None:
    """Whoever reaches the socket."""


async def serve(workspace_dir: str) -> None:
    """Until killed."""
    core = Core(
        workspace_dir=workspace_dir, store=SqlStore.open(workspace_dir),
        blobs=FileBlobStore(os.path.join(workspace_dir, "blobs")),
        envs=EnvironmentCache(os.path.join(workspace_dir, "environments")), bus=Bus(), link=RecordingLink(),
        loop=asyncio.get_running_loop(),
    )  # fmt: skip
    if core.read(lambda tx: tx.find_run("run_1")) is None:
        await core.write(lambda tx: tx.add_snapshot(_SNAPSHOT, [], 1.0))
        spec = RunSpec(experiment="exp", script="train.py", snapshot_id=_SNAPSHOT, target="c")
        await core.write(lambda tx: tx.create_run("run_1", spec, now=1.0))
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router(Shipped(core), allow))
    os.makedirs(server_dir(workspace_dir), exist_ok=True)
    path = socket_path(workspace_dir)
    config = uvicorn.Config(app, uds=path + ".new", log_config=None, access_log=False, lifespan="off", http="httptools")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    os.rename(path + ".new", path)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
