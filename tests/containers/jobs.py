"""Runs in containers, for the tests of this folder: a workspace on the tests' engine, and what is left afterwards."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from windlass._transport.autostart import is_running
from windlassd.agent import holder
from windlassd.agent.leftovers import processes_of
from windlassd.testing.container_engines import Base, Bases
from windlassd.testing.harness import WAIT_S, Workspace

IMAGE = "jobs:1"
ENVIRONMENT: Mapping[str, Any] = {"user_managed": True, "interpreter": "python", "container": {"image": IMAGE}}
_BASE = Base(programs=("sh", "sleep"))


class Jobs(Workspace):
    """A workspace whose jobs run in containers of ``IMAGE`` unless they ask for something else."""

    def __init__(self, engine: str, bases: Bases) -> None:
        super().__init__()
        self.engine = engine
        self.image = image_id(engine) or bases.image(engine, IMAGE, _BASE, changes=["ENV IMAGE_SAYS=hello"])

    def submit(self, text: str, *arguments: str, name: str | None = None, **spec: Any) -> str:
        """Submit a script's text for a container; returns the run's id."""
        return super().submit(text, *arguments, name=name, **{"environment": ENVIRONMENT, **spec})

    def plain(self, text: str, *arguments: str, **spec: Any) -> str:
        """Submit a script's text for this test's interpreter, without a container."""
        return super().submit(text, *arguments, **spec)

    def containers(self, run_id: str) -> list[str]:
        """Names of the run's containers that the engine knows."""
        found = holder.call(self.engine, "GET", "/containers/json?all=1")
        return [entry["Names"][0] for entry in found if run_id in entry["Names"][0]]

    def assert_nothing_left(self, run_id: str) -> None:
        """No process, container or mount of the run; the engine may take a moment to remove what has ended."""
        assert processes_of(run_id) == []
        with open("/proc/self/mounts", encoding="utf-8") as f:
            assert run_id not in f.read()
        deadline = time.monotonic() + WAIT_S
        while left := self.containers(run_id):
            assert time.monotonic() < deadline, left


def image_id(engine: str) -> str | None:
    """Id of ``IMAGE`` in the engine, or None."""
    try:
        return str(holder.call(engine, "GET", f"/images/{IMAGE}/json")["Id"])
    except holder.EngineError:
        return None


def process_of(run_id: str, script: str) -> int:
    """The run's process that Python runs a file of that name in, such as ``holder.py``."""
    for pid in processes_of(run_id):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            words = [word for word in f.read().split(b"\0")[1:] if not word.startswith(b"-")]
        if words and os.path.basename(words[0]) == script.encode():
            return pid
    raise AssertionError(f"{run_id} has no process of {script}")


def parent_of(pid: int) -> int:
    """A process's parent."""
    with open(f"/proc/{pid}/stat", "rb") as f:
        return int(f.read().rpartition(b")")[2].split()[1])


def printed(jobs: Workspace, run_id: str) -> Any:
    """The JSON that the run printed."""
    return json.loads(jobs.log(run_id))


@pytest.fixture
def jobs(home: Path, docker: str, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """An empty workspace on the tests' Docker."""
    yield from workspace_on(docker, bases, monkeypatch)


def workspace_on(engine: str, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """An empty workspace on an engine; stopped afterwards."""
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", engine)
    made = Jobs(engine, bases)
    yield made
    if is_running(made.dir):
        made.stop()
    made.client.close()
