"""The resident agent: takes orders, holds the runs of its node, and picks up what a killed predecessor left."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from windlass._transport.client import Client, quote
from windlass.errors import AzureMLException, ServiceUnavailable
from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec, Outcome, PartKey
from windlass.specs.run import Reason, RunRecord
from windlassd.agent import engines, leftovers, outcome
from windlassd.agent.datastores import Datastores, OwnFolders
from windlassd.agent.files_here import Files, FilesHere
from windlassd.agent.launch import container
from windlassd.agent.ledger import Ledger
from windlassd.agent.materialize import sdk_folder
from windlassd.agent.node_run import NodeRun, Tools, finish, make_sure_it_ended
from windlassd.agent.nursery import Nursery
from windlassd.agent.orders import OrderLine
from windlassd.agent.ship import Shipper
from windlassd.agent.sources import OwnStore, Sources
from windlassd.agent.tail import Grew, Tail
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_ASK_AGAIN_S = 1.0
_CLEAR_UP_S = 20.0
_EXIT_S = 5.0
"""How long a keeper whose agent was killed is given to end the run's processes and to leave its report."""


@dataclass(frozen=True)
class Ground:
    """What an agent stands on that is not on its server's machine."""

    client: Client
    sdk_dir: str
    sources: Sources
    datastores: Datastores
    errands: Callable[[], Sequence[str]]
    """See ``Tools.errands``."""
    files: Files


class Agent:
    """All parts of runs on one node. The order line calls ``obey``; each part has a thread of its own.

    Args:
        workspace_dir: The workspace's folder, or what stands for it on a machine that is not the server's.
        name: Its name, by which the server knows it.
        ground: What it stands on where that is not the server's machine.
    """

    def __init__(self, workspace_dir: str, name: str, ground: Ground | None = None) -> None:
        self._workspace_dir = workspace_dir
        self._client = ground.client if ground else Client(workspace_dir)
        self._runs: dict[PartKey, NodeRun] = {}
        self._recovering: set[PartKey] = set()
        self._lock = threading.Lock()
        shipper = Shipper(self._client, name)
        files = ground.files if ground else FilesHere(shipper)
        ledger = Ledger(f"{workspace_dir}/agents/{name}/held")
        self._left: Collection[PartKey] = ledger.parts()
        self._tools = Tools(
            workspace_dir=workspace_dir,
            sdk_dir=ground.sdk_dir if ground else sdk_folder(workspace_dir),
            sources=ground.sources if ground else OwnStore(self._client, f"{workspace_dir}/blobs"),
            nursery=Nursery(),
            ledger=ledger,
            shipper=shipper,
            files=files,
            tail=Tail(lambda key, kind: (shipper if kind is Grew.SPOOL else files).grew(key, kind)),
            engines=engines.Engines(self._sweep),
            datastores=ground.datastores if ground else OwnFolders(),
            errands=ground.errands if ground else tuple,
        )
        self._line = OrderLine(self._client, name, self.obey, self._held, math.inf if ground else None)

    def serve(self) -> None:
        """Return when the server said that nothing is left to do, or could not be had for a long time."""
        self._line.finished.wait()
        with self._lock:
            clearing_up = list(self._runs.values())
        for run in clearing_up:  # their ends are acknowledged, their folders perhaps not cleared up yet
            run.join(_CLEAR_UP_S)
        self._tools.nursery.close()
        self._tools.sources.close()

    def obey(self, order: Mapping[str, Any]) -> None:
        """Carry out one order; the same one twice does nothing more."""
        if "start" in order:
            self._start(order["start"])
        elif "stop" in order:
            self._stop(order["stop"])
        elif "known" in order:
            self._pick_up([(run_id, attempt, rank) for run_id, attempt, rank in order["known"]])
            self._clear_up()
        elif "refused" in order:
            log.error("the server refuses this agent: %s", order["refused"])

    def _start(self, order: Mapping[str, Any]) -> None:
        try:
            launch = LaunchSpec.from_wire(order)
        except (KeyError, TypeError, ValueError) as problem:
            words = f"The agent cannot read the order to start it: {problem!r}. See `windlass server status`."
            result = to_wire(outcome.could_not_start("start_failed", words))
            key = (str(order["run_id"]), int(order["attempt"]), int(order.get("node_rank", 0)))
            self._tools.shipper.event(key, "ended", outcome=result)
            raise
        key = launch.key
        folder = self._folder(key)
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
            run = self._runs.get((order["run_id"], order["attempt"], order["rank"]))
        if run:
            run.stop(Reason(order["reason_code"], order["message"]))

    def _pick_up(self, known: Collection[PartKey]) -> None:
        """Finish what the server saw started here and this process does not hold: a killed predecessor's."""
        for key in known:
            self._recover(self._begun(key))

    def _clear_up(self) -> None:
        """See to what a killed predecessor had in its ledger; the first line that is open is the time for it."""
        left, self._left = self._left, ()
        if left:
            threading.Thread(target=self._clear_up_after, args=(left,), name="clear up", daemon=True).start()

    def _clear_up_after(self, left: Collection[PartKey]) -> None:
        """Finish again those whose end is recorded; of the others the server tells by itself."""
        for key in sorted(left):
            try:
                record = RunRecord.from_wire(self._ask(f"/v1/runs/{quote(key[0])}"))
            except AzureMLException as problem:
                log.info("%s needs no clearing up: %s", key[0], problem)  # it was deleted, with its folder
                self._tools.ledger.remove(key)
                continue
            if record.status.final or _is_over(record, key):
                self._recover(self._begun(key))

    def _begun(self, key: PartKey) -> LaunchSpec:
        """What was begun in the part's folder, or when nothing was, a launch that stands for it."""
        begun = leftovers.read_launch(self._folder(key))
        return begun if begun is not None and begun.key == key else _unknown(key)

    def _folder(self, key: PartKey) -> RunFolder:
        return RunFolder(self._workspace_dir, key[0], key[2])

    def _held(self) -> list[PartKey]:
        with self._lock:
            return [*self._runs, *self._recovering]

    def _recover(self, launch: LaunchSpec) -> None:
        key = launch.key
        with self._lock:
            if key in self._recovering or key in self._runs:
                return
            self._recovering.add(key)
        self._tools.ledger.add(key)
        threading.Thread(target=self._finish_lost, args=(launch,), name=f"recover {launch.run_id}").start()

    def _finish_lost(self, launch: LaunchSpec) -> None:
        key, folder = launch.key, self._folder(launch.key)
        ended: float | None = None
        try:
            self._tools.shipper.open(key, folder)
            self._tools.files.open(key, folder)
            folder.make(launch.node)
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
        leftovers.kill_part(launch, folder)
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
            del self._runs[run.launch.key]

    def _sweep(self, engine: str) -> None:
        """Remove what was left with an engine: both it and an agent were killed."""
        labels = (container.WORKSPACE_LABEL, container.RUN_LABEL)
        held = sorted({run_id for run_id, _, _ in self._tools.ledger.parts()})
        engines.sweep(engine, *labels, self._workspace_dir, held)

    def _ask(self, path: str) -> Any:
        """What the server answers, however long it is away."""
        while True:
            try:
                return self._client.get(path)
            except ServiceUnavailable as problem:
                log.warning("asking again: %s", problem)
                time.sleep(_ASK_AGAIN_S)


def _unknown(key: PartKey) -> LaunchSpec:
    run_id, attempt, rank = key
    return LaunchSpec(run_id, attempt, "this machine", rank, "", (), "", "")


def _is_over(record: RunRecord, key: PartKey) -> bool:
    """True when the end of this part is recorded, and only other parts of the run go on."""
    ended = any(part["rank"] == key[2] and part["status"] == "ended" for part in record.parts)
    return ended and record.attempt == key[1]
