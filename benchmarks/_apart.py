"""Machines of network namespaces, a Ray cluster on three of them, and a workspace whose server they reach."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _peers import Worker, peer

import windlassd
from windlass import Workspace
from windlassd.testing.netns import Machine, Network
from windlassd.testing.ray_bed import TOKEN, RayBed

LAB, HOSTS = "lab", "hosts"
"""The compute targets: on Ray, and on machines without anything on them."""
_HOST = "host"
_SOURCES = str(Path(windlassd.__file__).parent.parent)
_WAIT_S = 120.0


class Switch(Network):
    """What all machines hang on; the engine ``netns`` is told of those only that Ray does not have."""

    @property
    def hosts(self) -> Path:
        """As ``control``, of those."""
        return self.folder / "hosts.json"

    def write_control(self) -> None:
        """As any, and that file."""
        super().write_control()
        told = json.loads(self.control.read_text())
        told["machines"] = [machine for machine in told["machines"] if machine["name"].startswith(_HOST)]
        beside = self.folder / "hosts.new"
        beside.write_text(json.dumps(told))
        beside.replace(self.hosts)


class Bed(RayBed):
    """A Ray cluster with a dashboard, which takes Ray's own jobs. Ray is the one that the peers have."""

    def __init__(
        self, network: Network, folder: Path, workers: int | None = 3, variables: Mapping[str, str] | None = None
    ) -> None:  # fmt: skip
        super().__init__(network, folder, workers, python=peer("ray"), variables=variables)

    def start_head(self, *words: str, variables: Mapping[str, str] | None = None) -> None:
        """As any, with the dashboard, and with the code that plays a cloud."""
        dashboard = ("--include-dashboard=true", f"--dashboard-host={self.head.address}")
        super().start_head(*dashboard, *words, variables={"PYTHONPATH": _SOURCES, **(variables or {})})

    def wait(self, machine: Machine, limit_s: float = _WAIT_S) -> None:
        """As any; a busy machine takes long."""
        super().wait(machine, limit_s)

    def worker(self, driver: str) -> Worker:
        """A worker of the benchmarks that runs on the head."""
        return Worker(driver, self.driver_python(python=peer("ray")), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)

    def attach(self, ws: Workspace, nodes: int = 3, **more: Any) -> None:
        """Make the compute target ``lab`` of it; a node is one CPU of a machine."""
        options = {"address": self.address, "python": self.driver_python(python=peer("ray")),
                   "agent_python": sys.executable}  # fmt: skip
        ws._client.put(f"/v1/computes/{LAB}/token", {"token": TOKEN})
        spec = {"engine": "ray", "max_nodes": nodes, "node_resources": {"CPU": 1}, "options": options, **more}
        ws._client.put(f"/v1/computes/{LAB}", spec)


@contextmanager
def network(**variables: str) -> Iterator[Switch]:
    """A switch for machines; the server that is started meanwhile listens on it.

    Args:
        variables: Settings for the server, and for what runs on the machines.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        sys.exit("Machines of network namespaces need root and iproute2.")
    made = Switch(hidden=[Path(os.environ["WINDLASS_HOME"])], variables=variables)
    with made:
        os.environ.update(variables, WINDLASS_AGENTS_LISTEN=f"{made.address}:0")
        yield made


@contextmanager
def ray_bed(on: Switch, workers: int | None = 3, **variables: str) -> Iterator[Bed]:
    """Ray on a head and so many machines; on none of them with None."""
    folder = Path(os.environ["WINDLASS_HOME"], "bed")
    folder.mkdir()
    yield Bed(on, folder, workers, variables)


def machines(on: Switch, ws: Workspace, count: int = 3) -> Sequence[Machine]:
    """Machines without Ray, with their compute target ``hosts``."""
    made = on.start(*(f"{_HOST}{number + 1}" for number in range(count)))
    spec = {"engine": "netns", "max_nodes": count, "options": {"machines": str(on.hosts)}}
    ws._client.put(f"/v1/computes/{HOSTS}", spec)
    return made


@contextmanager
def ended(ws: Workspace) -> Iterator[None]:
    """Stop the server at the end, before the machines go."""
    try:
        yield
    finally:
        ws._client.post("/v1/server/stop", {"force": True})


def until(reached: Callable[[], object], otherwise: str, limit_s: float = _WAIT_S) -> None:
    """Return when ``reached()`` holds, asked every few milliseconds."""
    deadline = time.monotonic() + limit_s
    while not reached():
        if time.monotonic() > deadline:
            sys.exit(f"{otherwise} within {limit_s:g} s")
        time.sleep(0.005)


def first_lines(ws: Workspace, run_id: str, nodes: int) -> None:
    """Return when a line of the script on each node has arrived here."""
    seen = set()
    for event in ws._client.events(f"/v1/runs/{run_id}/stream", logs=1):
        if event.name == "log" and "70_driver_log" in event.data["file"] and event.data["text"]:
            seen.add(event.data["file"])
        if len(seen) == nodes:
            return
    sys.exit(f"{run_id} ended after {len(seen)} of {nodes} lines: {ws._client.get(f'/v1/runs/{run_id}')['reason']}")
