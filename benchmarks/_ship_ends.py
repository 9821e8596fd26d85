"""The two ends of `shipping.py`, each a process of its own: what takes files, over TLS, and what sends them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from windlass._transport.client import Client
from windlass.specs.launch import PartKey, Ticket
from windlass.specs.run import RunSpec

KEY: PartKey = ("run_1", 1, 0)
LOG = "azureml-logs/70_driver_log.txt"
_SNAPSHOT = "5" * 64


async def serve(workspace_dir: str) -> None:
    """Serve until killed; prints a ticket without an address once it listens, and the port."""
    from fastapi import FastAPI  # here: the other end does without

    from windlassd.blobs.files import FileBlobStore
    from windlassd.control.bus import Bus
    from windlassd.control.core import Core
    from windlassd.control.shipped import Shipped
    from windlassd.envs.cache import EnvironmentCache
    from windlassd.server.agents.certificate import load
    from windlassd.server.agents.listener import _TlsServer  # as the listener has it
    from windlassd.server.api._http import install_error_handlers
    from windlassd.server.api.shipping import router
    from windlassd.store.sql import SqlStore
    from windlassd.testing.engine_suite import RecordingLink

    core = Core(
        workspace_dir=workspace_dir, store=SqlStore.open(workspace_dir),
        blobs=FileBlobStore(os.path.join(workspace_dir, "blobs")),
        envs=EnvironmentCache(os.path.join(workspace_dir, "environments")), bus=Bus(), link=RecordingLink(),
        loop=asyncio.get_running_loop(),
    )  # fmt: skip
    await core.write(lambda tx: tx.add_snapshot(_SNAPSHOT, [], 1.0))
    spec = RunSpec(experiment="exp", script="train.py", snapshot_id=_SNAPSHOT, target="c")
    await core.write(lambda tx: tx.create_run(KEY[0], spec, now=1.0))
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router(Shipped(core), lambda request, name, key: None))
    shown = load(workspace_dir)
    server = _TlsServer(app, shown)
    sock = socket.create_server(("0.0.0.0", 0))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    print(json.dumps({"port": sock.getsockname()[1], "certificate": shown.pinned}), flush=True)
    await serving


class Agent:
    """Obeys orders on standard input, one JSON object a line, and answers each with one."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        from windlassd.agent.ship_files import FileShipper
        from windlassd.agent.tail import Tail
        from windlassd.agent.uplink import Uplink
        from windlassd.blobs.run_folder import RunFolder

        self._there = told["there"]
        ticket = Ticket("agent", "ws", "id", (told["server"],), "token", told["certificate"])
        client = Client(told["home"], way=Uplink(ticket).for_files())
        self._make = lambda: FileShipper(client, "agent")
        self._tail_of = Tail
        self._folder = RunFolder(told["home"], KEY[0])

    def ship(self, source: str) -> Mapping[str, Any]:
        """Seconds from the end of a part that left a copy of ``source`` in its outputs until the server has all."""
        folder = self._folder
        shutil.rmtree(folder.root, ignore_errors=True)
        shutil.rmtree(self._there, ignore_errors=True)
        folder.make()
        os.makedirs(folder.work)
        shutil.copytree(source, os.path.join(folder.work, "outputs"), copy_function=os.link)
        shipper = self._make()
        began = time.perf_counter()
        folder.keep_live()
        shipper.open(KEY, folder)
        shipper.ended(KEY)
        brought = shipper.bring_home(KEY)
        seconds = time.perf_counter() - began
        assert not brought.notes, brought.notes
        shipper.close(KEY)
        return {"seconds": seconds}

    def log(self, source: str) -> Mapping[str, Any]:
        """Seconds from a log that is there at once until the server holds all of it."""
        folder = self._folder
        shutil.rmtree(folder.root, ignore_errors=True)
        shutil.rmtree(self._there, ignore_errors=True)
        folder.make()
        shutil.copy(source, os.path.join(folder.files, LOG))
        size = os.path.getsize(source)
        shipper = self._make()
        began = time.perf_counter()
        shipper.open(KEY, folder)
        self._until(size)
        seconds = time.perf_counter() - began
        shipper.close(KEY)
        return {"seconds": seconds}

    def lines(self, count: int) -> Mapping[str, Any]:
        """Seconds from each of so many printed lines until the server holds it."""
        folder = self._folder
        shutil.rmtree(folder.root, ignore_errors=True)
        shutil.rmtree(self._there, ignore_errors=True)
        folder.make()
        shipper = self._make()
        shipper.open(KEY, folder)
        tail = self._tail_of(shipper.grew)
        tail.watch(KEY, folder)
        lags, size, pause = [], 0, threading.Event()
        with open(os.path.join(folder.files, LOG), "ab", buffering=0) as log:
            for number in range(count):
                pause.wait(0.02)
                began = time.perf_counter()
                size += log.write(b"epoch %d\n" % number)
                self._until(size)
                lags.append(time.perf_counter() - began)
        shipper.close(KEY)
        return {"lags": lags}

    def _until(self, size: int) -> None:
        pause, path = threading.Event(), os.path.join(self._there, "files", LOG)
        while not os.path.exists(path) or os.path.getsize(path) < size:
            pause.wait(0.0005)

    def peak(self) -> Mapping[str, Any]:
        """The most memory that this process had, in bytes."""
        with open("/proc/self/status", encoding="utf-8") as status:
            return {"bytes": next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))}


def main() -> None:
    if sys.argv[1] == "serve":
        import uvloop

        uvloop.run(serve(sys.argv[2]))
    else:
        agent = Agent(json.loads(sys.stdin.readline()))
        for line in sys.stdin:
            order, *given = json.loads(line)
            print(json.dumps(getattr(agent, order)(*given)), flush=True)


if __name__ == "__main__":
    main()
