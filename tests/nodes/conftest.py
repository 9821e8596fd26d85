"""Three machines and a switch; what they are is in ``windlassd/testing/netns.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from conftest import end_processes_of
from windlass._transport.autostart import is_running
from windlassd.testing.harness import Workspace
from windlassd.testing.netns import Machine, Network


@pytest.fixture
def network(home: Path) -> Iterator[Network]:
    """A switch, whose machines do not see this test's home."""
    with Network(hidden=[home], variables={"WINDLASS_HEARTBEAT_S": "0.3"}) as made:
        yield made


@pytest.fixture
def machines(network: Network) -> Sequence[Machine]:
    """Three machines on it: ``one``, ``two`` and ``three``."""
    return network.start("one", "two", "three")


@pytest.fixture
def workspace(network: Network, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """An empty workspace, whose server the machines can reach; its cluster ``three`` is made of all of them."""
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", f"{network.address}:0")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.3")
    made = Workspace()
    yield made
    if is_running(made.dir):
        made.stop()
    made.client.close()
    end_processes_of(home)


@pytest.fixture
def cluster(workspace: Workspace, network: Network, machines: Sequence[Machine]) -> str:
    """The name of a cluster of the three machines."""
    options = {"machines": str(network.control)}
    workspace.client.put("/v1/computes/three", {"name": "three", "engine": "netns", "max_nodes": 3, "options": options})
    return "three"
