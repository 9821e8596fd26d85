"""Environments on nodes that are apart: resolved by the server, made on the node, with real processes."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import end_processes_of
from envs.conftest import Wheelhouse, wheels
from path.conftest import stop
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.testing.apart import lose_place
from windlassd.testing.harness import WAIT_S, Workspace

__all__ = ["wheels"]

SCRIPT = "import sys, tiny; print(sys.executable, tiny.__file__)"
SERVERS_LOG, NODES_LOG = "azureml-logs/20_image_build_log.txt", "azureml-logs/20_image_build_log_0.txt"


@dataclass
class Far:
    workspace: Workspace
    homes: Path

    def cluster(self, name: str = "far", nodes: int = 1, **variables: str) -> None:
        options = {"homes": str(self.homes / name), "variables": variables}
        spec = {"name": name, "engine": "apart", "max_nodes": nodes, "options": options}
        self.workspace.client.put(f"/v1/computes/{name}", spec)

    def submit(self, *packages: str, target: str = "far", text: str = SCRIPT, **spec: Any) -> str:
        return self.workspace.submit(text, target=target, environment={"pip_packages": list(packages)}, **spec)

    def ends(self, run_id: str) -> RunRecord:
        return self.workspace.wait(run_id)


@pytest.fixture
def far(workspace: Workspace, wheels: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
    made = Far(workspace, tmp_path / "homes")
    made.cluster()
    yield made
    stop(workspace)
    for place in made.homes.glob("*/places/*"):
        lose_place(str(place))
    for node in made.homes.glob("*/*-0"):
        end_processes_of(node)


def test_a_node_makes_it_once_in_a_home_of_its_own(far: Far, wheels: Wheelhouse, home: Path) -> None:
    wheels.add("tiny")
    first = far.submit("tiny")
    run = far.ends(first)
    assert run.status is RunStatus.COMPLETED, run.reason
    there = str(far.homes / "far" / "far-0" / "environments")
    assert far.workspace.log(first).count(there) == 2, "the interpreter and its packages are the node's"
    assert b"Resolved 1 package" in far.workspace.read(first, SERVERS_LOG)
    assert b"tiny==1.0" in far.workspace.read(first, NODES_LOG)
    assert not any((home / "environments" / "built").iterdir()), "the server has built nothing"
    second = far.submit("tiny")
    run = far.ends(second)
    assert run.status is RunStatus.COMPLETED and run.environment["cached"] is True
    assert run.parts[0]["environment"]["cached"] is True
    assert NODES_LOG not in far.workspace.files(second) and SERVERS_LOG not in far.workspace.files(second)
    known = far.workspace.client.get("/v1/environments")
    assert [item["key"] for item in known["for_nodes"]] == [run.environment["key"]] and not known["environments"]
    assert far.workspace.client.get(f"/v1/environments/{run.environment['key']}")["runs"] == [second, first]


def test_packages_that_nobody_has_fail_without_a_node(far: Far) -> None:
    run = far.ends(far.submit("nosuch"))
    assert run.status is RunStatus.FAILED and not run.nodes
    assert run.reason is not None and run.reason.code == "environment_failed" and "nosuch" in run.reason.message


def test_a_node_that_cannot_make_it_is_named(far: Far, wheels: Wheelhouse, tmp_path: Path) -> None:
    wheels.add("tiny")
    (tmp_path / "empty").mkdir()
    far.cluster("poor", PIP_FIND_LINKS=str(tmp_path / "empty"), UV_CACHE_DIR=str(tmp_path / "poor-cache"))
    run_id = far.submit("tiny", target="poor")
    run = far.ends(run_id)
    assert run.status is RunStatus.FAILED and run.reason is not None and run.reason.code == "environment_failed"
    assert "poor-0" in run.reason.message and "tiny" in run.reason.message
    assert b"tiny" in far.workspace.read(run_id, NODES_LOG)


def test_a_run_can_be_canceled_while_a_node_makes_it(far: Far, wheels: Wheelhouse, tmp_path: Path) -> None:
    hold = wheels.add_held("slow", tmp_path / "hold")
    run_id = far.submit("slow", text="print('never')")
    builder = os.pidfd_open(hold.wait_started())
    run = far.workspace.wait_for(run_id, lambda run: run.reason is not None and run.reason.code == "preparing_nodes")
    assert run.status is RunStatus.QUEUED and run.reason is not None and "far-0" in run.reason.message
    far.workspace.client.post(f"/v1/runs/{run_id}/cancel", {})
    assert far.ends(run_id).status is RunStatus.CANCELED
    assert select.select([builder], [], [], WAIT_S)[0], "the build goes on for a run that nobody wants"
    os.close(builder)
