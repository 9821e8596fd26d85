"""The resident agent: takes orders, holds the runs of its node, and picks up what a killed predecessor left."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from windlass._transport.client import Client, quote
from windlass.errors import AzureMLException, ServiceUnavailable
from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec, Outcome
from windlass.specs.run import Reason, RunRecord
from windlassd.agent import engines, leftovers, outcome
from windlassd.agent.launch import container
from windlassd.agent.ledger import Ledger
from windlassd.agent.materialize import sdk_folder
from windlassd.agent.node_run import NodeRun, Tools, finish, make_sure_it_ended
from windlassd.agent.nursery import Nursery
from windlassd.agent.orders import OrderLine
from windlassd.agent.ship import Shipper
from windlassd.agent.tail import Tail
from windlassd.blobs.files import FileBlobStore
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_ASK_AGAIN_S = 1.0
_CLEAR_UP_S = 20.0
_EXIT_S = 5.0
"""How long a keeper whose agent was killed is given to end the run's processes and to leave its report."""


class Agent:
    """All runs of one node. The order line calls ``obey``; each run has a thread of its own."""

    def __init__(self, workspace_dir: str, name: str) -> None:
        self._workspace_dir = workspace_dir
        self._client = Client(workspace_dir)
        self._runs: dict[tuple[str, int], NodeRun] = {}
        self._recovering: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        shipper = Shipper(self._client, name)
        ledger = Ledger(f"{workspace_dir}/agents/{name}/held")
        self._left: Sequence[str] = ledger.runs()
        self._tools = Tools(
            workspace_dir=workspace_dir,
            sdk_dir=sdk_folder(workspace_dir),
            blobs=FileBlobStore(f"{workspace_dir}/blobs"),
            nursery=Nursery(),
            ledger=ledger,
            shipper=shipper,
            tail=Tail(shipper.grew),
            snapshot=self._snapshot,
            engines=engines.Engines(self._sweep),
        )
        self._snapshots: dict[str, list[Mapping[str, Any]]] = {}
        self._line = OrderLine(self._client, name, self.obey, self._held)

    def serve(self) -> None:
        """Return when the server said that nothing is left to do, or could not be had for a long time."""
        self._line.finished.wait()
        with self._lock:
            clearing_up = list(self._runs.values())
        for run in clearing_up:  # their ends are acknowledged, their folders perhaps not cleared up yet
            run.join(_CLEAR_UP_S)
        self._tools.nursery.close()
        self._tools.blobs.close()

    def obey(self, order: Mapping[str, Any]) -> None:
        """Carry out one order; the same one twice does nothing more."""
        if "start" in order:
            self._start(order["start"])
        elif "stop" in order:
            self._stop(order["stop"])
        elif "known" in order:
            self._pick_up([(run_id, attempt) for run_id, attempt in order["known"]])
            self._clear_up()
        elif "refused" in order:
            log.error("the server refuses this agent: %s", order["refused"])

    def _start(self, order: Mapping[str, Any]) -> None:
        try:
            launch = LaunchSpec.from_wire(order)
        except (KeyError, TypeError, ValueError) as problem:
            words = f"The agent cannot read the order to start it: {problem!r}. See `windlass server status`."
            result = to_wire(outcome.could_not_start("start_failed", words))
            self._tools.shipper.event(str(order["run_id"]), int(order["attempt"]), "ended", outcome=result)
            raise
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
            self._recover(begun or _unknown(run_id, attempt))

    def _clear_up(self) -> None:
        """See to what a killed predecessor had in its ledger; the first line that is open is the time for it."""
        left, self._left = self._left, ()
        if left:
            threading.Thread(target=self._clear_up_after, args=(left,), name="clear up", daemon=True).start()

    def _clear_up_after(self, left: Sequence[str]) -> None:
        """Finish again those whose end is recorded; of the others the server tells by itself."""
        for run_id in left:
            try:
                over = RunRecord.from_wire(self._ask(f"/v1/runs/{quote(run_id)}")).status.final
            except AzureMLException as problem:
                log.info("%s needs no clearing up: %s", run_id, problem)  # it was deleted, with its folder
                self._tools.ledger.remove(run_id)
                continue
            if over:
                self._recover(leftovers.read_launch(RunFolder(self._workspace_dir, run_id)) or _unknown(run_id, 1))

    def _held(self) -> list[tuple[str, int]]:
        with self._lock:
            return [*self._runs, *self._recovering]

    def _recover(self, launch: LaunchSpec) -> None:
        key = (launch.run_id, launch.attempt)
        with self._lock:
            if key in self._recovering or key in self._runs:
                return
            self._recovering.add(key)
        self._tools.ledger.add(launch.run_id)
        threading.Thread(target=self._finish_lost, args=(launch, key), name=f"recover {launch.run_id}").start()

    def _finish_lost(self, launch: LaunchSpec, key: tuple[str, int]) -> None:
        folder = RunFolder(self._workspace_dir, launch.run_id)
        ended: float | None = None
        try:
            self._tools.shipper.open(launch.run_id, launch.attempt, folder)
            folder.make()
            result = self._outcome_of_lost(launch, folder)
            ended = leftovers.ended_at(folder)
        except Exception as problem:  # the edge: whatever is left there, the run must end
            log.exception("what is left of %s cannot be read", launch.run_id)
            result = outcome.could_not_start("agent_lost", f"The agent ended unexpectedly. {problem}")
        finish(launch, folder, result, self._tools, ended)
        with self._lock:
            self._recovering.discard(key)

    def _outcome_of_lost(self, launch: LaunchSpec, folder: RunFolder) -> Outcome:
        """How a run ended that a killed agent held; afterwards no process of it is left."""
        may_come = partial(leftovers.others_keep, self._workspace_dir, self._tools.nursery.pid)
        report = leftovers.read_exit(folder, _EXIT_S, may_come)
        leftovers.kill_processes_of(launch.run_id)
        make_sure_it_ended(launch, folder, self._tools.engines)
        if report is None:
            leftovers.kill_keeper_in(folder.work)
            report = {"ended": [], "agent_lost": True}
        by_shutdown = (signal.SIGKILL, signal.SIGTERM)
        if leftovers.was_another_boot(folder) and not outcome.all_ended_by_themselves(launch, report, by_shutdown):
            return outcome.machine_restarted(launch, folder)
        return outcome.judge(launch, folder, report, leftovers.read_stop(folder), 0)

    def _ended(self, run: NodeRun) -> None:
        with self._lock:
            del self._runs[(run.launch.run_id, run.launch.attempt)]

    def _sweep(self, engine: str) -> None:
        """Remove what was left with an engine: both it and an agent were killed."""
        labels = (container.WORKSPACE_LABEL, container.RUN_LABEL)
        engines.sweep(engine, *labels, self._workspace_dir, self._tools.ledger.runs())

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


def _unknown(run_id: str, attempt: int) -> LaunchSpec:
    return LaunchSpec(run_id, attempt, "this machine", 0, "", (), "", "")
