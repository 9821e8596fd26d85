"""How long it takes until each kind of loss is noticed, beside what the settings allow.

Machines are network namespaces, with Ray (`ray`) and without anything on them (`netns`). A run is lost in every way
that there is: its script, its agent, what keeps its place in Ray, Ray itself and the whole machine are killed, and its
cable is cut. Timed from there until the server has recorded what became of it. The server is killed, too: timed until
the first line that the script prints afterwards has been read.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
from _apart import HOSTS, LAB, Bed, ended, machines, network, ray_bed, until
from _measure import Row, note, quick, rounds, tell
from _workspace import config, experiment, workspace

from windlass import Run, ScriptRunConfig, Workspace, settings
from windlass.errors import ServiceUnavailable
from windlassd.testing.netns import Machine

_SCRIPT = "import time\nwhile True:\n    print('tick', time.time(), flush=True)\n    time.sleep(0.05)\n"
_SETTINGS = {
    "WINDLASS_HEARTBEAT_S": "0.5", "WINDLASS_HEARTBEAT_TIMEOUT_S": "4", "WINDLASS_NODE_LOST_AFTER_S": "8",
    "WINDLASS_LEASE_S": "2.5",
}  # fmt: skip
"""Shorter than usual, so that this ends; what is measured grows with them."""
_SLACK_S = 0.5
"""For the server to look, and to write down what it saw."""
_GONE = ("NotResponding", "Failed")


@dataclass(frozen=True)
class Loss:
    """A way to lose a run.

    Attributes:
        what: In words.
        do: Brings it about on the machine that the run has.
        signs: What the run must come to: statuses, or codes of reasons.
        allowed_s: By the settings.
        retries: How often it is begun anew.
    """

    what: str
    do: Callable[[Machine], object]
    signs: Sequence[str]
    allowed_s: float
    retries: int = 0


class Cluster:
    """A compute target and its machines, of which one run at a time has one.

    Args:
        repair: Makes a machine that lost something as it was.
    """

    def __init__(self, ws: Workspace, name: str, hosts: Sequence[Machine], repair: Callable[[Machine], None]) -> None:
        self.name = name
        self._ws, self._hosts, self._repair = ws, hosts, repair
        self._config: ScriptRunConfig = config(_SCRIPT, name)

    def lose(self, loss: Loss) -> float:
        """Seconds until it was recorded."""
        run, machine = self._begin(loss.retries)
        began = time.time()
        loss.do(machine)
        found: list[float] = []

        def noticed() -> bool:
            later = [h for h in self._record(run)["history"] if h["time"] > began]
            found[:] = [h["time"] for h in later if {h["status"], h["reason"]["code"]} & set(loss.signs)]
            return bool(found)

        until(noticed, f"{loss.what}: {self.name} came to none of {loss.signs}")
        self._end(run, machine)
        return found[0] - began

    def survive(self) -> tuple[float, float]:
        """Seconds from the death of the server until one answers, and until a later line of the script was read."""
        run, machine = self._begin(0)
        server = psutil.Process(self._ws._client.get("/v1/server")["pid"])
        server.kill()
        began = time.time()
        self._ws._client.get("/v1/server")
        answered = time.time()
        until(lambda: self._last_tick(run) > began, f"{self.name}: the lines stay away")
        read = time.time()
        self._end(run, machine)
        return answered - began, read - began

    def _last_tick(self, run: Run) -> float:
        """When the last line was printed that the server now has; 0 while it does not answer."""
        path = f"/v1/runs/{run.id}/files/azureml-logs/70_driver_log.txt"
        try:
            lines = self._ws._client.open("GET", path).read().decode().splitlines()
        except ServiceUnavailable:
            return 0.0
        return max((float(words[1]) for line in lines if len(words := line.split()) == 2), default=0.0)

    def _begin(self, retries: int) -> tuple[Run, Machine]:
        """A run whose script has printed something, and its machine."""
        until(lambda: self._idle() == len(self._hosts), f"{self.name}: machines did not come back")
        run = experiment(self._ws, self.name).submit(self._config, max_retries=retries)
        until(lambda: self._files(run), f"{run.id} printed nothing")
        [node] = self._record(run)["nodes"]
        return run, next(host for host in self._hosts if host.name == node.partition(".")[0])

    def _end(self, run: Run, machine: Machine) -> None:
        if self._record(run)["status"] not in ("Failed", "Completed", "Canceled"):
            run.cancel()
            self._repair(machine)
            run.wait_for_completion(raise_on_error=False)
        else:
            self._repair(machine)

    def _files(self, run: Run) -> bool:
        found = self._ws._client.get(f"/v1/runs/{run.id}/files")["files"]
        return any("70_driver_log" in file["path"] and file["size"] for file in found)

    def _idle(self) -> int:
        nodes = self._ws._client.get(f"/v1/computes/{self.name}/nodes")["nodes"]
        return sum(node["status"] == "idle" for node in nodes)

    def _record(self, run: Run) -> dict[str, Any]:
        found: dict[str, Any] = self._ws._client.get(f"/v1/runs/{run.id}")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds(1))
    args = parser.parse_args()
    with ExitStack() as stack:
        switch = stack.enter_context(network(**_SETTINGS))
        bed = stack.enter_context(ray_bed(switch))
        ws = workspace()
        stack.enter_context(ended(ws))
        hosts = machines(switch, ws)
        bed.attach(ws)
        on_ray = Cluster(ws, LAB, bed.workers, partial(_repair_ray, bed))
        on_hosts = Cluster(ws, HOSTS, hosts, _repair)
        losses = {on_ray: _losses_on_ray(bed), on_hosts: _losses()}
        if quick():
            losses = {cluster: found[:1] for cluster, found in losses.items()}
        with ThreadPoolExecutor() as pool:  # both mostly wait
            list(pool.map(partial(_measure, args.rounds), losses, losses.values()))
        for cluster in (on_ray, on_hosts):
            answered, read = zip(*(cluster.survive() for _ in range(args.rounds)), strict=True)
            _tell(cluster, "server killed → one answers", answered, None)
            _tell(cluster, "server killed → a later line was read", read, None)
    in_force = ", ".join(f"`{name}={value}`" for name, value in _SETTINGS.items())
    usual = ", ".join(f"{name} {settings.get(name):g}" for name in _usual())
    note(
        f"In force: {in_force}; without them: {usual}. Allowed is what they say, and {_SLACK_S} s for the server to "
        f"look and to write. Ray looks after its nodes every 0.5 s, and has one for dead after 3 times 1 s. "
        f"Each {args.rounds} times; all machines share {os.cpu_count()} cores."
    )


def _usual() -> list[str]:
    names = [name.removeprefix("WINDLASS_").lower() for name in _SETTINGS]
    for name in _SETTINGS:
        os.environ.pop(name, None)
    return names


def _losses() -> list[Loss]:
    timeout_s, lost_s, lease_s = (
        float(settings.get(name)) for name in ("heartbeat_timeout_s", "node_lost_after_s", "lease_s")
    )
    return [
        Loss("script killed → failed", partial(_kill, "train.py"), ["Failed"], 0.0),
        Loss("agent killed → failed", partial(_kill, "windlassd.agent"), ["Failed"], timeout_s),
        Loss("machine killed → failed", Machine.kill, ["Failed"], timeout_s),
        Loss("cable cut → NotResponding", Machine.cut, _GONE, timeout_s),
        Loss("cable cut → failed", Machine.cut, ["Failed"], lost_s),
        Loss("cable cut, with a retry → it begins anew", Machine.cut, ["retrying"], 2 * lease_s, retries=1),
    ]


def _losses_on_ray(bed: Bed) -> list[Loss]:
    timeout_s = float(settings.get("heartbeat_timeout_s"))
    return [
        *_losses(),
        Loss("Ray's actor killed → failed", lambda machine: bed.place(machine).kill(), ["Failed"], timeout_s),
        Loss("raylet killed → failed", lambda machine: bed.raylet(machine).kill(), ["Failed"], timeout_s),
    ]


def _measure(count: int, cluster: Cluster, losses: Sequence[Loss]) -> None:
    for loss in losses:
        _tell(cluster, loss.what, [cluster.lose(loss) for _ in range(count)], loss.allowed_s + _SLACK_S)


def _tell(cluster: Cluster, what: str, seconds: Sequence[float], allowed_s: float | None) -> None:
    engine = "ray" if cluster.name == LAB else "netns"
    measured = ", ".join(f"{one:.2f} s" for one in seconds)
    if allowed_s is None:
        tell(Row(f"{what}, `{engine}`", measured))
    else:
        tell(Row(f"{what}, `{engine}`", measured, target=f"≤ {allowed_s:g} s", met=max(seconds) <= allowed_s))


def _kill(what: str, machine: Machine) -> None:
    """Kill the one process there whose command line has that."""
    for process in machine.processes():
        try:
            if process.name().startswith("python") and what in " ".join(process.cmdline()):
                process.kill()
        except psutil.NoSuchProcess:
            continue


def _repair(machine: Machine) -> None:
    if not machine.up:
        machine.restart()
    if machine.is_cut:
        machine.heal()


def _repair_ray(bed: Bed, machine: Machine) -> None:
    """Ray ends on a machine that it had given up; whatever was lost, the machine is booted anew."""
    _repair(machine)
    if not any(process.name() == "raylet" and process.is_running() for process in machine.processes()):
        machine.restart()
        bed.start_worker(machine)


if __name__ == "__main__":
    main()
