"""What this process holds: interactive runs and children, kept alive by one open line and shipped by one thread.

Logging appends to spool files in the runs' folders and never waits (see ``_metrics_log.py``). Two threads of this
process do the rest: one holds the line by which the server knows that the process lives, the other sends what lies in
the spools. Both go on when the server is killed and started again. Nothing here ends a run: a process that ends
without ``complete()`` leaves that to the server, which finds the spools on disk.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Set

from windlass import settings
from windlass._away import send_files, spool_folder
from windlass._metrics_log import MetricsLog, metrics_log
from windlass._spools import frames_at, spool_files
from windlass.errors import AzureMLException, ServiceUnavailable

if TYPE_CHECKING:
    from windlass._transport.client import Client

_SILENCE_S = 30.0
_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0

_sessions: "Dict[str, Session]" = {}
_sessions_lock = threading.Lock()


def session(client: "Client") -> "Session":
    """This process's session with the workspace of ``client``."""
    with _sessions_lock:
        found = _sessions.get(client.workspace_dir)
        if found is None:
            found = _sessions[client.workspace_dir] = Session(client)
        return found


def owner() -> "Dict[str, Any]":
    """This process, so that the server can tell whether it still lives (its id alone may be another's later)."""
    about: "Dict[str, Any]" = {"pid": os.getpid()}
    try:
        with open("/proc/self/stat", "rb") as f:
            about["started"] = f.read().rpartition(b")")[2].decode().split()[19]
        with open("/proc/sys/kernel/random/boot_id") as boot:
            about["boot"] = boot.read().strip()
        about["pid_namespace"] = os.readlink("/proc/self/ns/pid")  # in a container the id is another outside
    except OSError:  # no such files on this system; then only the line tells
        pass
    return about


class Session:
    """The runs that this process holds in one workspace. Safe to use from several threads."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._change = threading.Condition()
        self._runs: "Dict[str, str]" = {}
        self._carried: "Dict[str, str]" = {}
        self._ended: "Set[str]" = set()
        self._ended_outside: "Set[str]" = set()
        self._line: "Optional[threading.Thread]" = None
        self._shipper: "Optional[threading.Thread]" = None
        self._line_fd: "Optional[int]" = None
        self._acked: "Dict[str, int]" = {}
        self._wanted = 0
        self.id = str(uuid.uuid4())

    def hold(self, run_id: str, spool: str) -> None:
        """Keep a run alive and ship its spools until it is released."""
        with self._change:
            self._runs[run_id] = spool
            if self._line is None:
                self._line = _daemon("line", self._keep_line)
            if self._shipper is None:
                self._shipper = _daemon("ship", self._ship)
            self._change.notify_all()

    def carry(self, run_id: str) -> "MetricsLog":
        """The writer for points that this process logs into a run it is no part of; they are shipped and no more.

        They lie in ``clients/<run id>`` of the workspace until then; what a killed process leaves there is brought in
        at the server's next start.
        """
        with self._change:
            folder = self._carried.get(run_id)
            if folder is None:
                folder = self._carried[run_id] = os.path.join(self._client.workspace_dir, "clients", run_id)
                os.makedirs(folder, mode=0o700, exist_ok=True)
            if self._shipper is None:
                self._shipper = _daemon("ship", self._ship)
            self._change.notify_all()
        return metrics_log(folder)

    def carried_log(self, run_id: str) -> "Optional[MetricsLog]":
        """The writer that ``carry`` gave for the run in this process, or None."""
        folder = self._carried.get(run_id)
        return None if folder is None else metrics_log(folder)

    def send_rest(self) -> None:
        """At the process's end: send what was logged from outside and is not sent yet; what fails stays on disk."""
        for run_id, folder in self._carried.items():
            try:
                self._ship_run(run_id, folder)
            except AzureMLException:
                continue

    def take_over(self, run_id: str) -> str:
        """Hold from now on a run that another process began; returns its spool folder."""
        answer = self._client.post("/v1/clients/%s/runs" % self.id, {"run_id": run_id, "owner": owner()})
        spool = spool_folder(self._client, run_id, answer)
        self.hold(run_id, spool)
        return spool

    def ended_outside(self, run_id: str) -> bool:
        """True when the run was this process's and somebody else ended it."""
        return run_id in self._ended_outside

    def expect_end(self, run_id: str) -> None:
        """This process is about to end the run itself: nothing to warn of."""
        with self._change:
            self._ended.add(run_id)

    def release(self, run_id: str) -> None:
        """The run is over."""
        with self._change:
            spool = self._runs.pop(run_id, None) or self._carried.pop(run_id, None)
            if spool is not None:
                for path in [path for path in self._acked if path.startswith(spool + os.sep)]:
                    del self._acked[path]
            self._change.notify_all()

    def wake(self) -> None:
        """Ship now what lies there."""
        with self._change:
            self._wanted += 1
            self._change.notify_all()

    def after_fork(self) -> None:
        """In a forked child: it holds nothing, and must not keep the parent's line open when the parent dies."""
        if self._line_fd is not None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._line_fd, inheritable=False)  # not closed: the number belongs to an object of the parent
            os.close(null)

    def _keep_line(self) -> None:
        tries = 0
        while True:
            with self._change:
                if not self._runs:
                    self._line = None
                    return
                body = json.dumps({"runs": list(self._runs), "owner": owner()}).encode()
            try:
                self._listen(body)
                tries = 0
                time.sleep(_RETRY_S[0])  # a server that hangs up again and again must not be called without a pause
            except (AzureMLException, OSError, ValueError):  # the server was killed: the next call starts it again
                time.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1

    def _listen(self, body: bytes) -> None:
        """Hold one connection until the server has nothing more to say, or breaks it off."""
        answer = self._client.open(
            "POST", "/v1/clients/%s/alive" % self.id, body=body, content_type="application/json",
            timeout_s=_SILENCE_S, own_connection=True,
        )  # fmt: skip
        try:
            self._line_fd = answer.fileno()
            while True:
                line = answer.readline()
                if not line:
                    return
                message = json.loads(line.decode())
                if "ended" in message:
                    self._note_end(message["ended"])
                elif "taken" in message:
                    self.release(message["taken"])
        finally:
            self._line_fd = None
            answer.close()

    def _note_end(self, run_id: str) -> None:
        """The run is over. When somebody else ended it, what this process logs from now on has no place."""
        with self._change:
            surprising = run_id in self._runs and run_id not in self._ended
            if surprising:
                self._ended_outside.add(run_id)
        if surprising:
            sys.stderr.write(
                "windlass: the run %s was ended from outside; what is logged from now on is not kept.\n" % run_id
            )
        self.release(run_id)

    def _ship(self) -> None:
        pause_s, wanted = _FIRST_PAUSE_S, 0
        while True:
            with self._change:
                if self._wanted == wanted:
                    self._change.wait(pause_s)
                wanted, held = self._wanted, dict(self._carried, **self._runs)
                if not held:
                    self._shipper = None
                    return
            moved = False
            for run_id, spool in held.items():
                try:
                    moved = self._ship_run(run_id, spool) or moved
                except ServiceUnavailable:  # away: the spools wait
                    moved = False
                except AzureMLException as e:  # refused, such as a run that was deleted: sending it again cannot help
                    sys.stderr.write("windlass: the metrics of %s cannot be kept: %s\n" % (run_id, e))
                    self.release(run_id)
            pause_s = _FIRST_PAUSE_S if moved else min(_LONGEST_PAUSE_S, pause_s * 1.5)

    def _ship_run(self, run_id: str, spool: str) -> bool:
        from windlass._transport.client import quote

        moved = False
        if settings.elsewhere():
            send_files(self._client, run_id, spool)
        for name, path in spool_files(spool):
            while True:
                start = self._acked.get(path, 0)
                try:
                    data, whole = frames_at(path, start)
                except OSError:  # the run was ended, and its spools with it
                    break
                if not whole:
                    break
                answer = self._client.call(
                    "POST", "/v1/runs/%s/spool" % quote(run_id), query={"spool": name, "offset": start},
                    body=data[:whole], content_type="application/octet-stream",
                )  # fmt: skip
                moved = True
                with self._change:
                    if run_id not in self._runs and run_id not in self._carried:
                        return moved
                    self._acked[path] = int(answer["acked"])
        return moved


def carried(run_id: str) -> "Optional[MetricsLog]":
    """The writer for a run that this process logged into from outside, in whatever workspace; None when it did not."""
    with _sessions_lock:
        found = [held.carried_log(run_id) for held in _sessions.values()]
    return next((log for log in found if log is not None), None)


def _at_exit() -> None:
    for held in list(_sessions.values()):
        held.send_rest()


def begin(client: "Client", asked: "Mapping[str, Any]", folder: "Optional[str]" = None) -> "Any":
    """Begin a run that this process holds; returns its record and the writer of its metrics.

    Args:
        client: To the workspace.
        asked: ``spec`` and optionally ``run_id``, as ``POST /v1/interactive`` has them.
        folder: The working folder whose ``outputs`` and ``logs`` are shown while the run goes.
    """
    from windlass.specs.run import RunRecord

    held = session(client)
    shown = None if settings.elsewhere() else folder
    body = dict(asked, request_id=str(uuid.uuid4()), line=held.id, owner=owner(), folder=shown)
    answer = client.post("/v1/interactive", body)
    record = RunRecord.from_wire(answer["run"])
    spool = spool_folder(client, record.id, answer)
    held.hold(record.id, spool)
    return record, metrics_log(spool)


def _daemon(name: str, work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, name="windlass " + name, daemon=True)
    thread.start()
    return thread


def _after_fork_in_child() -> None:
    global _sessions_lock
    _sessions_lock = threading.Lock()
    for held in _sessions.values():
        held.after_fork()
    _sessions.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
