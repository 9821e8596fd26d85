"""One node's part of one run, from its order to its acknowledged end: a thread that reads like the story it is."""

from __future__ import annotations

import importlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from windlass import settings
from windlass._spools import lost_points
from windlass.errors import AzureMLException, ServiceUnavailable
from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec, Outcome
from windlass.specs.run import Reason
from windlassd.agent import data, engines, environ, leftovers, outcome
from windlassd.agent.datastores import Datastores, OwnFolders
from windlassd.agent.files_here import Files
from windlassd.agent.launch import container, single
from windlassd.agent.ledger import Ledger
from windlassd.agent.nursery import Keeper, Nursery
from windlassd.agent.ship import Shipper
from windlassd.agent.sources import Sources
from windlassd.agent.tail import Tail
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
RANKS_FILE = "ranks.json"
_ENVIRONMENT = "windlassd.agent.environment"
"""Loaded by parts on other machines than the server's alone."""
_STARTS = 3
"""How often a keeper is asked for when the nursery dies over it."""
_ANSWERS_S = 5.0
"""After the order to kill, a keeper that is not done is taken for one that answers nothing, such as a stopped one."""


@dataclass(frozen=True)
class Tools:
    """What every run of an agent shares."""

    workspace_dir: str
    sdk_dir: str
    sources: Sources
    nursery: Nursery
    ledger: Ledger
    shipper: Shipper
    files: Files
    tail: Tail
    engines: engines.Engines = field(default_factory=engines.Engines)
    datastores: Datastores = field(default_factory=OwnFolders)
    errands: Callable[[], Sequence[str]] = tuple
    """Brings home what else lies on the node at a part's end; sentences on what could not be."""


class NodeRun(threading.Thread):
    """Runs one launch. ``stop`` may be called from any thread at any time."""

    def __init__(self, launch: LaunchSpec, tools: Tools, done: Callable[[NodeRun], None]) -> None:
        super().__init__(name=f"run {launch.run_id}", daemon=True)
        self.launch = launch
        self._tools = tools
        self._done = done
        self._folder = RunFolder(tools.workspace_dir, launch.run_id, launch.node_rank)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._over = False
        self._told_to_end: Reason | None = None
        self._stopping = threading.Event()
        self._keeper: Keeper | None = None
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._ends_at = time.monotonic() + launch.max_run_duration_s if launch.max_run_duration_s else None

    def stop(self, reason: Reason) -> None:
        """Ask the processes to end: SIGTERM now, SIGKILL after the launch's grace. The first reason stands."""
        with self._lock:
            if self._told_to_end is not None or self._over:
                return
            self._told_to_end = reason
            self._stopping.set()
            self._kill_at = time.monotonic() + self.launch.stop_grace_s
            leftovers.remember_stop(self._folder, reason)
            if self._keeper:
                self._keeper.terminate()
            os.eventfd_write(self._wake, 1)

    def kill(self, reason: Reason) -> None:
        """Kill every process at once, whatever was asked before. Returns when none is left; the first reason stands."""
        self.stop(reason)
        with self._lock:
            if self._over:
                return
            self._kill_at = time.monotonic()
            if self._keeper:
                self._keeper.kill()
            os.eventfd_write(self._wake, 1)
        leftovers.kill_part(self.launch, self._folder)

    def run(self) -> None:
        """Prepare, run, finish; whatever goes wrong becomes the run's outcome."""
        launch = self.launch
        try:
            self._tools.ledger.add(launch.key)
            self._tools.shipper.open(launch.key, self._folder)
            self._tools.files.open(launch.key, self._folder)
            result = self._carry_out()
        except engines.StartRefused as problem:
            words = f"The run could not be started on {launch.node}: {problem.message}"
            result = outcome.could_not_start(problem.error_code, words)
            if self._told_to_end is not None:  # while an engine did not answer
                result = outcome.stopped(self._told_to_end)
        except (OSError, AzureMLException) as problem:
            log.warning("%s could not be carried out", launch.run_id, exc_info=True)
            result = outcome.could_not_start(
                "start_failed", f"The run could not be started on {launch.node}: {problem}"
            )
            if self._told_to_end is not None and isinstance(problem, ServiceUnavailable):  # while a server was away
                result = outcome.stopped(self._told_to_end)
        except Exception as problem:  # the edge: a bug of ours must not leave the run hanging
            log.exception("%s failed inside the agent", launch.run_id)
            result = outcome.could_not_start(
                "internal_error", f"Windlass's agent failed: {problem!r}. Please report it."
            )
        finish(launch, self._folder, result, self._tools)
        with self._lock:  # a late stop must not write to a number that means another file by then
            self._over = True
            os.close(self._wake)
        self._done(self)

    def _carry_out(self) -> Outcome:
        launch, folder = self.launch, self._folder
        folder.make(launch.node)
        self._tools.sources.lay_out(launch.snapshot_id, folder, lambda: self._told_to_end is None)
        self._tools.tail.watch(launch.key, folder)
        if launch.environment:
            launch = self.launch = self._with_environment(launch)
        here = environ.own()
        inherited = container.inherited(launch, self._tools.engines, here) if launch.container else here
        place = (self._tools.workspace_dir, self._tools.sdk_dir)
        own = environ.for_rank(launch, folder, *place, 0, inherited)
        launch = self._tools.datastores.bring(launch, folder, lambda: self._told_to_end is None)
        on_node = data.prepare(launch, folder, own, lambda: self._told_to_end is not None)
        launch = replace(
            launch, arguments=on_node.arguments(launch.arguments),
            command=on_node.arguments(launch.command, shell=launch.shell),
        )  # fmt: skip
        variables = [
            {**environ.for_rank(launch, folder, *place, r, inherited), **on_node.variables}
            for r in range(launch.process_count)
        ]
        if launch.container:
            ranks = container.ranks(launch, folder, container.Place(*place, here), self._tools.engines, variables)
        else:
            ranks = single.ranks(launch, folder, variables.__getitem__)
        exit_file = os.path.join(folder.agent, leftovers.EXIT_FILE)
        _write_json(
            os.path.join(folder.agent, RANKS_FILE), {"ranks": ranks, "cwd": folder.work, "exit_file": exit_file}
        )
        return self._keep()

    def _with_environment(self, launch: LaunchSpec) -> LaunchSpec:
        """The launch with the interpreter of its environment, which is made on this node."""
        shipper = self._tools.shipper
        environment = importlib.import_module(_ENVIRONMENT)
        call = environment.Call(
            launch, self._folder, settings.home(), self._stopping, self._tools.sources,
            lambda: shipper.event(launch.key, "preparing", node=launch.node),
        )  # fmt: skip
        made: LaunchSpec
        made, about = call.ready()
        shipper.event(launch.key, "prepared", node=launch.node, environment=about)
        if launch.max_run_duration_s:  # which the making of it is no part of
            self._ends_at = time.monotonic() + launch.max_run_duration_s
        return made

    def _keep(self) -> Outcome:
        """Have a keeper run the ranks. From here on they may have been started, which ``launch.json`` tells."""
        kills = outcome.oom_kills()
        known = {**to_wire(self.launch), "boot": leftovers.this_boot()}
        _write_json(os.path.join(self._folder.agent, leftovers.LAUNCH_FILE), known)
        for _ in range(_STARTS):
            with self._lock:
                if self._told_to_end is not None:
                    return outcome.stopped(self._told_to_end)
                keeper = self._keeper = self._tools.nursery.start(os.path.join(self._folder.agent, RANKS_FILE))
            report = self._watch(keeper)
            with self._lock:
                self._keeper = None
            keeper.close()
            if report is not None:
                make_sure_it_ended(self.launch, self._folder, self._tools.engines)
                return outcome.judge(self.launch, self._folder, report, self._told_to_end, outcome.oom_kills() - kills)
            if keeper.pid is not None:
                break
        leftovers.kill_part(self.launch, self._folder)
        make_sure_it_ended(self.launch, self._folder, self._tools.engines)
        if self._told_to_end is not None:
            return outcome.stopped(self._told_to_end)
        return outcome.keeper_lost(self.launch, self._folder)

    def _watch(self, keeper: Keeper) -> Mapping[str, Any] | None:
        """Follow the keeper to its end; its report, or None when it was killed before every rank had ended."""
        key, shipper = self.launch.key, self._tools.shipper
        ended: list[Mapping[str, Any]] = []
        for message in keeper.messages(self._wake, self._seconds_left):
            if message is None:
                self._look_at_deadlines(keeper)
            elif "started" in message:
                shipper.event(key, "started", pids=message["started"], node=self.launch.node, **self._for_gang())
            elif "exited" in message:
                ended.append(message["exited"])
                if message["exited"]["status"] != 0:
                    self._end_the_others(keeper)
            elif "done" in message:
                report: Mapping[str, Any] = message["done"]
                return report
        if len(ended) < self.launch.process_count:
            return None
        leftovers.kill_part(self.launch, self._folder)  # the keeper was killed while it did this
        return {"ended": ended, "agent_lost": False}

    def _for_gang(self) -> Mapping[str, Any]:
        """What a server must know to find all parts of a run of several nodes, should nobody have written it down."""
        if self.launch.node_count == 1:
            return {}
        return {"nodes": self.launch.nodes, "launch": to_wire(self.launch)}

    def _end_the_others(self, keeper: Keeper) -> None:
        """The first rank to fail ends the run."""
        if self.launch.process_count > 1 and self._kill_at is None:
            self._kill_at = time.monotonic() + min(self.launch.stop_grace_s, 3.0)
            keeper.terminate()

    def _look_at_deadlines(self, keeper: Keeper) -> None:
        now = time.monotonic()
        if self._ends_at is not None and now >= self._ends_at:
            self._ends_at = None
            limit = self.launch.max_run_duration_s
            self.stop(Reason("time_limit", f"The run was ended because it took longer than its {limit} s."))
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._give_up_at = now + _ANSWERS_S
            keeper.kill()
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            log.error("the keeper of %s answers nothing: it is killed", self.launch.run_id)
            if keeper.pid is None:
                self._tools.nursery.end()
            keeper.end()

    def _seconds_left(self) -> float | None:
        deadlines = [d for d in (self._kill_at, self._give_up_at, self._ends_at) if d is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None


def make_sure_it_ended(launch: LaunchSpec, folder: RunFolder, known: engines.Engines) -> None:
    """Return when no container of the launch is left, as far as its engine answers; at once when holders saw it."""
    if launch.container is None or container.all_told(launch, folder):
        return
    leftovers.kill_part(launch, folder)  # the first process dies with its holder: this waits for it
    names = [container.name(launch, rank) for rank in range(launch.process_count)]
    known.remove_containers(launch.container.engine, names)


def finish(
    launch: LaunchSpec, folder: RunFolder, result: Outcome, tools: Tools, ended: float | None = None
) -> None:  # fmt: skip
    """Bring everything of an ended launch to the server, then tell it the outcome and clear up. May be repeated.

    ``ended`` is when its processes ended, default now. Time spent waiting for a server is not the run's. Whatever goes
    wrong here, the end gets through: nothing else would ever end the run.
    """
    shipper, key = tools.shipper, launch.key
    ended, kept = time.time() if ended is None else ended, False
    try:
        result, kept, took_s = _bring_home(launch, folder, result, tools, ended)
        ended += took_s
        if not kept:
            tools.ledger.remove(key)
        told = to_wire(result)
        json.dumps(told)  # here, where it can still be told in other words
    except Exception as problem:  # the edge: a bug of ours must not leave the run hanging
        log.exception("the end of %s cannot be told as it was", launch.run_id)
        told, kept = to_wire(_broken_end(result, folder, problem)), False
    try:
        shipper.wait(shipper.event(key, "ended", time=ended, outcome=told))
        if kept and tools.files.make_durable(key):  # else this folder has the only copy of what the script wrote
            folder.seal()
    except Exception:  # the edge: the end is told; a folder nested a thousand deep may stay as it is
        log.exception("the folder of %s could not be cleared up", launch.run_id)
    if launch.environment:
        importlib.import_module(_ENVIRONMENT).release(launch, folder, settings.home())
    tools.ledger.remove(key)
    tools.files.close(key)
    shipper.close(key)


def _bring_home(
    launch: LaunchSpec, folder: RunFolder, result: Outcome, tools: Tools, ended: float
) -> tuple[Outcome, bool, float]:  # fmt: skip
    """The outcome with all that is known now, whether every file is kept, and the seconds that took the run."""
    shipper, key = tools.shipper, launch.key
    began, waited, kept = time.monotonic(), 0.0, False
    shipper.event(key, "finalizing", time=ended, outcome=to_wire(result))
    try:
        missed = shipper.missed(key, tools.tail.forget(key))
        tools.files.ended(key)
        waited = shipper.drain(key, folder)
        missed += [*shipper.unread(key), *tools.errands()]
        unsent = tools.datastores.send_back(launch, folder, result.ok)
        if unsent:
            unsent = [*unsent, f"What the script wrote lies in {folder.root}."]
            result = replace(result, reason_code="data_not_kept" if result.ok else result.reason_code)
        notes = [*missed, *_logs_gone(launch, folder, result), *unsent, *folder.keep_live()]
        brought = tools.files.bring_home(key)
        waited += brought.waited_s
        if brought.notes:
            notes += [*brought.notes, f"They lie in {folder.root} on {launch.node}."]
        lost = max(result.lost_points, lost_points(folder.spool))
        message = " ".join([result.message, *notes]).strip()
        result = replace(result, files=tuple(brought.files), message=message, lost_points=lost)
        kept = not (unsent or brought.notes)
    except Exception as problem:  # the edge: the end itself must get through, whatever disk and script did
        log.exception("the files of %s could not be kept", launch.run_id)
        words = f"Its files could not all be kept: {problem}. What there is lies in {folder.root}."
        code = "files_not_kept" if result.ok else result.reason_code
        result = replace(result, reason_code=code, message=f"{result.message} {words}".strip())
    return result, kept, max(0.0, time.monotonic() - began - waited)


def _broken_end(result: Outcome, folder: RunFolder, problem: Exception) -> Outcome:
    """What can be told of an end over which the agent itself failed; of how the processes ended, what is sound."""
    words = f"Windlass's agent failed at the run's end: {problem!r}. Please report it. Its files lie in {folder.root}."
    code, number = result.exit_code, result.exit_signal
    return Outcome(
        reason_code="internal_error", message=f"{result.message} {words}".strip(),
        exit_code=code if isinstance(code, int) else None, exit_signal=number if isinstance(number, str) else None,
    )  # fmt: skip


def _logs_gone(launch: LaunchSpec, folder: RunFolder, result: Outcome) -> list[str]:
    """A sentence on logs that are no longer there though their processes ran."""
    if not (result.ok or result.exit_code is not None or result.exit_signal):
        return []
    names = [single.log_name(launch, rank) for rank in range(launch.process_count)]
    gone = [name for name in names if folder.find(name) is None]
    return [f"{', '.join(gone)} was removed while the run went; what was printed there is lost."] if gone else []


def _write_json(path: str, data: Mapping[str, Any]) -> None:
    beside = path + ".tmp"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        json.dump(data, f)
    os.replace(beside, path)
