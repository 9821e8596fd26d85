"""A real workspace for tests: its server, agent and jobs are the real processes, started as a user's would be."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import struct
import sys
import textwrap
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from windlass._transport.client import Client, quote
from windlass._transport.places import workspace_dir
from windlass.specs.run import RunRecord

WAIT_S = 60.0
TRAINS_UNTIL_TOLD = """
    import os, signal, subprocess, sys
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    from azureml.core import Run
    run = Run.get_context()
    subprocess.Popen([sys.executable, "-c", "import os, signal; os.setsid(); signal.pause()"])
    for i in range(200):
        run.log("loss", i)
    open("outputs/checkpoint.txt", "w").write("kept")
    print("trained", flush=True)
    signal.sigwait([signal.SIGUSR1])
    for i in range(200, 400):
        run.log("loss", i)
    print("done", flush=True)
"""
"""A script with a daemon of its own that logs 200 points, writes an output, and goes on when it gets SIGUSR1."""


class Workspace:
    """A workspace under the current WINDLASS_HOME, driven over its socket.

    Jobs run on this test's interpreter (``user_managed``), so that nothing is built.
    """

    def __init__(self, name: str = "test") -> None:
        self.dir = workspace_dir(name)
        self.client = Client(self.dir)

    def submit(self, text: str, *arguments: str, name: str | None = None, **spec: Any) -> str:
        """Submit a script's text; returns the run's id."""
        content = textwrap.dedent(text).encode()
        snapshot = self.snapshot({"train.py": content})
        asked = {
            "experiment": "test", "script": name or "train.py", "snapshot_id": snapshot, "arguments": list(arguments),
            "environment": {"user_managed": True, "interpreter": sys.executable}, **spec,
        }  # fmt: skip
        return str(self.client.post("/v1/runs", {"request_id": str(uuid.uuid4()), "spec": asked})["id"])

    def snapshot(self, files: Mapping[str, bytes]) -> str:
        """Store a source folder; returns the snapshot's id."""
        entries = [
            {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "mode": 0o644}
            for path, content in files.items()
        ]
        answer = self.client.post("/v1/snapshots", {"files": entries})
        body = b"".join(
            struct.pack("<Q32s", len(content), hashlib.sha256(content).digest()) + content for content in files.values()
        )
        if answer["missing"]:
            self.client.call("POST", "/v1/blobs", body=body, content_type="application/octet-stream")
        return str(answer["id"])

    def get(self, run_id: str) -> RunRecord:
        """The run's record with its history."""
        return RunRecord.from_wire(self.client.get(f"/v1/runs/{run_id}"))

    def wait(self, run_id: str) -> RunRecord:
        """The record once the run has ended."""
        return self.wait_for(run_id, lambda run: run.status.final)

    def wait_for(self, run_id: str, reached: Callable[[RunRecord], bool]) -> RunRecord:
        """The record once ``reached`` holds, woken by the run's events; survives a server's death."""
        from windlass.errors import ServiceUnavailable

        with _Alarm(WAIT_S, f"{run_id} did not get there"):
            while True:
                try:
                    record = self.get(run_id)
                    for event in self.client.events(f"/v1/runs/{run_id}/stream", logs=0):
                        if event.name == "run":
                            record = RunRecord.from_wire(event.data)
                        if reached(record):  # also when metrics or files came, which it may look at
                            return self.get(run_id)
                    if reached(self.get(run_id)):
                        return self.get(run_id)
                except ServiceUnavailable:
                    continue

    def wait_for_text(self, run_id: str, text: str) -> str:
        """The driver log so far, once ``text`` stands in it."""
        from windlass.errors import ServiceUnavailable

        with _Alarm(WAIT_S, f"{text!r} did not appear in the log of {run_id}"):
            while True:
                seen = ""
                try:
                    for event in self.client.events(f"/v1/runs/{run_id}/stream", logs=1):
                        if event.name == "log" and "70_driver_log" in event.data["file"]:
                            seen += str(event.data["text"])
                            if text in seen:
                                return seen
                        if event.name == "end":  # else the server was killed or is ending
                            raise AssertionError(f"{text!r} is not in the log of {run_id}: {seen!r}")
                except ServiceUnavailable:
                    continue

    def log(self, run_id: str) -> str:
        """The driver log."""
        return self.read(run_id, "azureml-logs/70_driver_log.txt").decode("utf-8", "replace")

    def read(self, run_id: str, path: str) -> bytes:
        """Content of a kept file."""
        return self.client.open("GET", f"/v1/runs/{run_id}/files/{quote(path)}").read()

    def files(self, run_id: str) -> list[str]:
        """Names of the kept files."""
        return [f["path"] for f in self.client.get(f"/v1/runs/{run_id}/files")["files"]]

    def values(self, run_id: str, name: str) -> list[Any]:
        """Points of a metric series."""
        series = self.client.get(f"/v1/runs/{run_id}/metrics")["metrics"]
        return list(series[name]["values"]) if name in series else []

    def server_pid(self) -> int:
        """Process of the server."""
        return int(self.client.get("/v1/server")["pid"])

    def agent_pid(self) -> int:
        """Process of this machine's agent, once it is connected."""
        with _Alarm(WAIT_S, "no agent connected"):
            while True:
                for agent in self.client.get("/v1/server")["agents"]:
                    return int(agent["pid"])

    def stop(self) -> None:
        """Stop the server and its agent, canceling what runs."""
        self.client.post("/v1/server/stop", {"force": True})

    def wait_until_gone(self) -> None:
        """Return when no server and no agent holds the workspace."""
        agents = os.path.join(self.dir, "agents")
        names = os.listdir(agents) if os.path.isdir(agents) else ()
        locks = [os.path.join(agents, name, "agent.lock") for name in names]
        with _Alarm(WAIT_S, f"server or agent of {self.dir} did not end"):
            for path in (os.path.join(self.dir, "server", "server.lock"), *locks):
                with open(path, "a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)

    def children_of(self, pid: int) -> list[int]:
        """Direct children of a process, whichever of its threads started them."""
        found: list[int] = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{thread}/children") as f:
                    found += [int(child) for child in f.read().split()]
            except FileNotFoundError:
                continue  # it has ended, and its children are another's
        return found


class _Alarm:
    """Ends a wait that would not end, with a message (a test's safety net; main thread only)."""

    def __init__(self, seconds: float, message: str) -> None:
        self._seconds = seconds
        self._message = message

    def __enter__(self) -> None:
        def ring(number: int, frame: object) -> None:
            raise AssertionError(f"{self._message} within {self._seconds:g} s")

        self._before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *problem: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
