"""The resident agent: takes orders, holds the runs of its node, and picks up what a killed predecessor left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from windlass._transport.client import Client
from windlass.errors import ServiceUnavailable
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import Reason
from windlassd.agent import leftovers, outcome
from windlassd.agent.materialize import sdk_folder
from windlassd.agent.node_run import NodeRun, Tools, finish
from windlassd.agent.nursery import Nursery
from windlassd.agent.orders import OrderLine
from windlassd.agent.ship import Shipper
from windlassd.agent.tail import Tail
from windlassd.blobs.files import FileBlobStore
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_ASK_AGAIN_S = 1.0


class Agent:
    """All runs of one node. The order line calls ``obey``; each run has a thread of its own."""

    def __init__(self, workspace_dir: str, name: str) -> None:
        self._workspace_dir = workspace_dir
        self._client = Client(workspace_dir)
        self._runs: dict[tuple[str, int], NodeRun] = {}
        self._recovering: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        shipper = Shipper(self._client, name)
        self._tools = Tools(
            workspace_dir=workspace_dir,
            sdk_dir=sdk_folder(workspace_dir),
            blobs=FileBlobStore(f"{workspace_dir}/blobs"),
            nursery=Nursery(),
            shipper=shipper,
            tail=Tail(shipper.grew),
            snapshot=self._snapshot,
        )
        self._snapshots: dict[str, list[Mapping[str, Any]]] = {}
        self._line = OrderLine(self._client, name, self.obey, self._held)

    def serve(self) -> None:
        """Return when the server said that nothing is left to do, or could not be had for a long time."""
        self._line.finished.wait()
        self._tools.nursery.close()
        self._tools.blobs.close()

    def obey(self, order: Mapping[str, Any]) -> None:
        """Carry out one order; the same one twice does nothing more."""
        if "start" in order:
            self._start(LaunchSpec.from_wire(order["start"]))
        elif "stop" in order:
            self._stop(order["stop"])
        elif "known" in order:
            self._pick_up([(run_id, attempt) for run_id, attempt in order["known"]])

    def _start(self, launch: LaunchSpec) -> None:
        key = (launch.run_id, launch.attempt)
        folder = RunFolder(self._workspace_dir, launch.run_id)
        with self._lock:
            if key in self._runs or key in self._recovering:
                return
            begun = leftovers.read_launch(folder)
            if begun is None or begun.attempt != launch.attempt:
                run = self._runs[key] = NodeRun(launch, self._tools, self._ended)
                run.start()
                return
        self._recover(begun)

    def _stop(self, order: Mapping[str, Any]) -> None:
        with self._lock:
            run = self._runs.get((order["run_id"], order["attempt"]))
        if run:
            run.stop(Reason(order["reason_code"], order["message"]))

    def _pick_up(self, known: Sequence[tuple[str, int]]) -> None:
        """Finish what the server saw started here and this process does not hold: a killed predecessor's."""
        for run_id, attempt in known:
            begun = leftovers.read_launch(RunFolder(self._workspace_dir, run_id))
            self._recover(begun or LaunchSpec(run_id, attempt, "this machine", 0, "", (), "", ""))

    def _held(self) -> list[tuple[str, int]]:
        with self._lock:
            return [*self._runs, *self._recovering]

    def _recover(self, launch: LaunchSpec) -> None:
        key = (launch.run_id, launch.attempt)
        with self._lock:
            if key in self._recovering or key in self._runs:
                return
            self._recovering.add(key)
        threading.Thread(target=self._finish_lost, args=(launch, key), name=f"recover {launch.run_id}").start()

    def _finish_lost(self, launch: LaunchSpec, key: tuple[str, int]) -> None:
        folder = RunFolder(self._workspace_dir, launch.run_id)
        self._tools.shipper.open(launch.run_id, launch.attempt, folder)
        try:
            folder.make()
            report = leftovers.read_exit(folder)
            leftovers.kill_processes_of(launch.run_id)
            result = outcome.judge(launch, folder, report or {"ended": [], "agent_lost": True}, None, 0)
        except OSError as problem:
            log.exception("what is left of %s cannot be read", launch.run_id)
            result = outcome.could_not_start("agent_lost", f"The agent ended unexpectedly. {problem}")
        finish(launch, folder, result, self._tools)
        with self._lock:
            self._recovering.discard(key)

    def _ended(self, run: NodeRun) -> None:
        with self._lock:
            del self._runs[(run.launch.run_id, run.launch.attempt)]

    def _snapshot(self, snapshot_id: str) -> list[Mapping[str, Any]]:
        files = self._snapshots.get(snapshot_id)
        if files is None:
            files = self._ask(f"/v1/snapshots/{snapshot_id}")["files"]
            if len(self._snapshots) > 64:
                self._snapshots.clear()
            self._snapshots[snapshot_id] = files
        return files

    def _ask(self, path: str) -> Any:
        """What the server answers, however long it is away."""
        while True:
            try:
                return self._client.get(path)
            except ServiceUnavailable as problem:
                log.warning("asking again: %s", problem)
                time.sleep(_ASK_AGAIN_S)
