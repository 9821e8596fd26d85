"""A workspace whose listener for agents is open on 127.0.0.1, with real TLS, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest

from windlass.specs.data import DataPlace, DataSpec
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.blobs.files import FileBlobStore
from windlassd.blobs.snapshots import snapshot_id
from windlassd.control.agents import AgentHub
from windlassd.control.bus import Bus
from windlassd.control.core import Core
from windlassd.control.enlisting import Enlisting
from windlassd.control.tokens import Tokens
from windlassd.control.workspace import WorkspaceControl
from windlassd.envs.cache import EnvironmentCache
from windlassd.server.agents.app import create_agents_app
from windlassd.server.agents.listener import AgentsListener
from windlassd.store.sql import SqlStore

T = TypeVar("T")
CONTENT = b"print('hello')\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILES = [{"path": "train.py", "sha256": SHA256, "size": len(CONTENT), "mode": 0o644}]
SNAPSHOT = snapshot_id(FILES)
BIG = os.urandom(3 << 20)
BIG_FILES = [*FILES, {"path": "big", "sha256": hashlib.sha256(BIG).hexdigest(), "size": len(BIG), "mode": 0o644}]
BIG_SNAPSHOT = snapshot_id(BIG_FILES)
FACTS = {"version": "1", "protocol": 1, "workspace": "ws", "web": "http://127.0.0.1:1", "pid": 1, "home": "/secret"}


class Answer:
    """What came back."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers = answer.status, answer.headers
        self.body = answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """The workspace; what is asked of its parts is done on its loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server_folder = folder / "server"
        self.server_folder.mkdir(parents=True, exist_ok=True)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.do(self._open())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns, run on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def now(self, work: Callable[[], T]) -> T:
        """What the function returns, called on the loop."""

        async def call() -> T:
            return work()

        return self.do(call())

    def close(self) -> None:
        """The server's end."""
        self.do(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _open(self) -> None:
        self.hub = AgentHub(str(self.folder), self.loop)
        self.core = Core(
            workspace_dir=str(self.folder), store=SqlStore.open(str(self.folder)),
            blobs=FileBlobStore(str(self.folder / "blobs")), envs=EnvironmentCache(str(self.folder / "environments")),
            bus=Bus(), link=self.hub, loop=self.loop,
        )  # fmt: skip
        self.control = WorkspaceControl(self.core, self.hub)
        self.tokens = Tokens(str(self.server_folder))
        self.hub.enlisting = Enlisting(str(self.folder), self.tokens)
        self.listener = AgentsListener(
            self.core, str(self.server_folder), lambda: create_agents_app(self.control, self.tokens, lambda: FACTS)[0]
        )
        self.hub.enlisting.door = self.core.door = self.listener
        await self.listener.open()
        for files, content in ((FILES, CONTENT), (BIG_FILES, BIG)):
            self.core.blobs.put([content], hashlib.sha256(content).hexdigest())
            await self.core.write(lambda tx, f=files: tx.add_snapshot(snapshot_id(f), f, 1.0))  # type: ignore[misc]

    async def _close(self) -> None:
        await self.listener.close()
        self.control.close()
        await asyncio.sleep(0)
        self.core.envs.close()
        self.core.store.close()
        self.core.blobs.close()

    def run(self, run_id: str, *statuses: RunStatus, **spec: Any) -> RunRecord:
        """A stored run that nothing conducts."""
        asked = {"experiment": "exp", "script": "train.py", "snapshot_id": SNAPSHOT, "kind": "job", **spec}
        made = RunSpec(**asked)

        async def work() -> RunRecord:
            record = await self.core.write(lambda tx: tx.create_run(run_id, made, now=10.0))
            for status in statuses:
                record = await self.core.write(
                    lambda tx, s=status: tx.transition(run_id, s, now=10.0, reason=Reason("x", "x."))  # type: ignore[misc]
                )
            return record

        return self.do(work())

    def record(self, run_id: str) -> RunRecord:
        return self.core.read(lambda tx: tx.get_run(run_id))

    @cached_property
    def context(self) -> ssl.SSLContext:
        """How an agent with a ticket speaks TLS."""
        context = ssl.create_default_context(cadata=self.listener.certificate)
        context.check_hostname = False
        return context

    def connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)

    @property
    def port(self) -> int:
        return int((self.server_folder / "agents-port").read_text())

    def call(
        self, token: str | None, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {},
    ) -> Answer:  # fmt: skip
        """The answer to one call."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {**({"Authorization": f"Bearer {token}"} if token is not None else {}), **headers}
        connection = self.connection()
        try:
            connection.request(method, path, data, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
        made = Served(tmp_path_factory.mktemp("served") / "ws")
        data = (DataSpec("in", "reference", "mount", (DataPlace("", "workspaceblobstore"),)),)
        made.run("mine", RunStatus.RUNNING, data=data)
        made.run("mine_1", RunStatus.RUNNING, parent_id="mine", kind="interactive")
        made.run("others", RunStatus.RUNNING)
        made.run("others_1", RunStatus.RUNNING, parent_id="others", kind="interactive")
        yield made
        made.close()


@pytest.fixture(scope="module")
def agent(served: Served) -> str:
    """A token of the agent of ``mine``'s only part."""
    return served.hub.enlist("mine.1.0", "mine").token


@pytest.fixture(scope="module")
def job(served: Served, agent: str) -> str:
    """A token of the script of that part."""
    token = served.tokens.job_token("mine.1.0")
    assert token is not None
    return token
