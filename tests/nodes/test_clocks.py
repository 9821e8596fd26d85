"""Machines whose clocks are hours apart from the server's and from each other's."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from faults.hour import FastClock
from faults.shim.build import compiled
from nodes.test_runs import nothing_left
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace
from windlassd.testing.netns import Network

pytestmark = pytest.mark.nodes
AHEAD_S = {"one": 3 * 3600.0, "two": -5 * 3600.0, "three": 0.0}
SPEAKS = """
    import os, time
    from azureml.core import Run
    run = Run.get_context()
    for i in range(50):
        run.log("turn", i)
    print("it is", time.time(), flush=True)
"""


@pytest.fixture
def cluster(workspace: Workspace, network: Network, tmp_path: Path) -> str:
    shutil.copy(compiled("hour"), tmp_path / "hour.so")
    for name, ahead_s in AHEAD_S.items():
        (tmp_path / name).mkdir()
        FastClock(tmp_path / name).set_back(-ahead_s)
    network.start(*AHEAD_S, shared=[tmp_path])
    wrong = f"export LD_PRELOAD={tmp_path}/hour.so HOUR_CONTROL={tmp_path}/$(hostname)/hour.control; "
    agent = ["sh", "-c", f"{wrong} exec {sys.executable} -m windlassd.agent --elsewhere"]
    options = {"machines": str(network.control), "agent": agent}
    workspace.client.put("/v1/computes/three", {"name": "three", "engine": "netns", "max_nodes": 3, "options": options})
    return "three"


def test_what_happened_is_told_by_the_servers_clock(workspace: Workspace, network: Network, cluster: str) -> None:
    run_id = workspace.submit(SPEAKS, target=cluster, node_count=3, max_retries=1)
    run = workspace.wait(run_id)
    assert (run.status, run.attempt) == (RunStatus.COMPLETED, 1), run.reason
    log = workspace.read(run_id, "azureml-logs/70_driver_log_0.txt").decode()
    assert float(log.split("it is ")[1].split()[0]) > time.time() + 3600, "the clock was right"
    times = [float(entry["time"]) for entry in run.history]
    assert times == sorted(times), times
    assert run.started is not None and run.ended is not None
    assert run.created <= run.started <= run.ended <= time.time()
    series = workspace.client.get(f"/v1/runs/{run_id}/metrics")["metrics"]["turn"]
    assert sorted(series["values"]) == sorted([*range(50)] * 3)
    assert run.created - 2 <= min(series["times"]) and max(series["times"]) <= run.ended + 2
    nothing_left(list(network.machines.values()))
