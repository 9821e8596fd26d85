"""A Ray cluster whose nodes are the machines of ``netns.py``: a head that gives nothing, and workers.

``ray stop`` and the like end every process of Ray that they see: all of it stays inside of the machines. The driver of
the engine must run on a machine, too: ``driver_python`` is a command that stands for an interpreter there.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from windlass.specs.cluster import ClusterSpec
from windlassd.testing.netns import Machine, Network, Process, nsenter

TOKEN = "a-token-of-the-test-cluster"
STAND_IN = Path(__file__).with_name("stand_in_agent.py")
_PORT = 6379
_WAIT_S = 40.0
_LOG = "/tmp/ray.log"
_STARTED = b"Ray runtime started"
_QUICK = {
    "RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3", "RAY_health_check_initial_delay_ms": "1000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120", "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": "/tmp/gcs",
}  # fmt: skip
_LEFT = """
import json, ray
ray.init(address={address!r}, log_to_driver=False, logging_level="ERROR")
groups = [g["name"] for g in ray.util.placement_group_table().values() if g["state"] != "REMOVED"]
print("LEFT", json.dumps([a["name"] for a in ray.util.list_named_actors(all_namespaces=True)] + groups))
"""


class RayBed:
    """A head and workers; ``start`` may be given more.

    Args:
        network: What the machines hang on.
        folder: Where commands are written.
        workers: How many there are at first; None: not even Ray on the head.
        python: The interpreter that has Ray.
        variables: What Ray has in its environment beside the usual.
    """

    def __init__(
        self, network: Network, folder: Path, workers: int | None = 3, python: str = sys.executable,
        variables: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.network = network
        self._folder = folder
        self._python = python
        self._more = dict(variables or {})
        self.head = network.start("head")[0]
        self.address = f"{self.head.address}:{_PORT}"
        self.workers: list[Machine] = []
        if workers is not None:
            self.start_head()
            self._start_workers(workers)

    def cluster(self, name: str = "three", max_nodes: int = 3, **changes: Any) -> ClusterSpec:
        """A compute target on it, with the stand-in for agents."""
        options = {"address": self.address, "python": self.driver_python(), "agent_python": str(STAND_IN)}
        options.update(changes.pop("options", {}))
        need = changes.pop("node_resources", {"CPU": 1})
        return ClusterSpec(name, "ray", max_nodes=max_nodes, node_resources=need, options=options, **changes)

    def start_head(self, *words: str, variables: Mapping[str, str] | None = None) -> None:
        """Start Ray on the head, and return when it answers."""
        words = ("--head", f"--port={_PORT}", "--num-cpus=0", "--include-dashboard=false", *words)
        self._ray(self.head, words, variables)
        self.wait(self.head)

    def stop_head(self) -> None:
        """Kill all of Ray on the head, as a crash does."""
        for process in self.head.processes():
            process.kill()
        until(lambda: not _answers(self.head.address), "the head did not go down")

    def start_worker(
        self, machine: Machine, cpus: int = 4, gpus: int = 2, variables: Mapping[str, str] | None = None
    ) -> None:
        """Have a machine join."""
        self._ray(machine, (f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"), variables)

    def wait(self, machine: Machine, limit_s: float = _WAIT_S) -> None:
        """Return when Ray has started there."""
        until(lambda: _STARTED in machine.path(_LOG).read_bytes(), f"Ray did not start on {machine.name}", limit_s)

    def driver_python(self, machine: Machine | None = None, python: str = sys.executable) -> str:
        """A command that runs an interpreter on a machine, by default the head."""
        where = machine or self.head
        path = self._folder / f"python-on-{where.name}-{where.init}-{abs(hash(python))}"
        if path.exists():  # it may be in use
            return str(path)
        words = " ".join([*nsenter(where.init), "env", "-u", "PYTHONPATH", "HOME=/tmp/home", python])
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def left(self) -> Sequence[str]:
        """Names of the actors and groups that there are, and the processes of agents and jobs."""
        lines = self.python(_LEFT.format(address=self.address)).splitlines()  # Ray prints when it likes
        [found] = [json.loads(line[len("LEFT ") :]) for line in lines if line.startswith("LEFT ")]
        return [*found, *(text for machine in self.workers if machine.up for text in stand_ins(machine))]

    def python(self, text: str) -> str:
        """What a program prints on the head; Ray's own clients would wait for far longer."""
        return self.head.run("timeout", f"{_WAIT_S:g}", sys.executable, "-c", text, env=self._variables())

    def begin(self, text: str) -> Process:
        """Start a program on the head; it says a line when it is ready."""
        command = ["timeout", f"{4 * _WAIT_S:g}", sys.executable, "-c", text]
        process = self.head.start(command, env=self._variables(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline(), f"a program on the head ended with {process.wait()}"
        return process

    def end_stand_ins(self, machine: Machine) -> None:
        """Kill agents that are stood in for there, and their jobs."""
        for process in machine.processes():
            if "stand_in" in command(process):
                process.kill()

    def raylet(self, machine: Machine) -> psutil.Process:
        """The process of Ray that runs a machine."""
        return next(p for p in machine.processes() if p.name() == "raylet")

    def place(self, machine: Machine) -> psutil.Process:
        """The process that keeps the place of a stand-in there."""
        agent = next(p for p in machine.processes() if "windlassd.agent" in command(p))
        parent = agent.parent()
        assert parent is not None
        return parent

    def _start_workers(self, count: int) -> None:
        self.workers += self.network.start(*(f"ray{n + 1}" for n in range(count)))
        for machine in self.workers:
            self.start_worker(machine)
        for machine in self.workers:
            self.wait(machine)

    def _ray(self, machine: Machine, words: Sequence[str], variables: Mapping[str, str] | None) -> None:
        with open(machine.path(_LOG), "wb") as log:
            command = [self._python, "-m", "ray.scripts.scripts", "start", "--block", "--log-style=record",
                       f"--node-ip-address={machine.address}", *words]  # fmt: skip
            machine.start(
                command, env={**self._variables(), **(variables or {})}, stdout=log.fileno(), stderr=log.fileno()
            )

    def _variables(self) -> dict[str, str]:
        return {**_QUICK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, **self._more}


def stand_ins(machine: Machine) -> Sequence[str]:
    """Command lines of the agents that are stood in for there, and of their jobs."""
    return [text for p in machine.processes() if "stand_in" in (text := command(p))]


def until(reached: Callable[[], object], otherwise: str | Callable[[], str], limit_s: float = _WAIT_S) -> None:
    """Return when ``reached()`` holds; what is waited for is another process's and tells nobody."""
    deadline = time.monotonic() + limit_s
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError(f"{otherwise if isinstance(otherwise, str) else otherwise()} within {limit_s:g} s")
        time.sleep(0.02)


def command(process: psutil.Process) -> str:
    """Its words; none once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _answers(host: str) -> bool:
    try:
        socket.create_connection((host, _PORT), timeout=1.0).close()
    except OSError:
        return False
    return True
