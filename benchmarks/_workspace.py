"""A workspace of the benchmark's own, used through the SDK as a user would."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from windlass import Environment, Experiment, Run, ScriptRunConfig, Workspace
from windlass.compute import AmlCompute, ComputeTarget

if "WINDLASS_HOME" not in os.environ:
    sys.exit("A benchmark needs a WINDLASS_HOME of its own; start it with scripts/bench.")


def workspace(name: str = "bench") -> Workspace:
    """The workspace of that name in this WINDLASS_HOME, with its server and agent up."""
    found = Workspace(None, None, name)
    while not found._client.get("/v1/server")["agents"]:
        time.sleep(0.01)
    return found


def cluster(ws: Workspace, nodes: int, name: str | None = None) -> ComputeTarget:
    """A cluster of this machine with so many nodes."""
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=nodes)
    target = ComputeTarget.create(ws, name or f"nodes-{nodes}", size)
    target.wait_for_completion()
    return target


def own_interpreter() -> Environment:
    """This interpreter as it is, so that nothing has to be built."""
    environment = Environment("bench")
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = sys.executable
    return environment


def config(script: str, target: Any, environment: Environment | None = None, **more: Any) -> ScriptRunConfig:
    """A configuration of a script's text, in a source folder of its own."""
    folder = tempfile.mkdtemp(prefix="src-", dir=os.environ["WINDLASS_HOME"])
    with open(os.path.join(folder, "train.py"), "w") as f:
        f.write(textwrap.dedent(script))
    environment = environment or own_interpreter()
    return ScriptRunConfig(folder, "train.py", compute_target=target, environment=environment, **more)


class Watcher(io.StringIO):
    """A standard output that calls ``seen`` with each whole line and the moment (``clock()``) its end was written."""

    def __init__(self, seen: Callable[[str, float], None], clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._seen = seen
        self._clock = clock
        self._begun = ""

    def write(self, text: str) -> int:
        """Note the lines that end here."""
        now = self._clock()
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._seen(line, now)
        return len(text)


def watch(run: Run, seen: Callable[[str, float], None], clock: Callable[[], float] = time.time) -> None:
    """Wait for the run as users do, with ``show_output``; what would be printed goes to ``seen``."""
    with redirect_stdout(Watcher(seen, clock)):
        run.wait_for_completion(show_output=True)


def experiment(ws: Workspace, name: str = "bench") -> Experiment:
    """The experiment of that name."""
    return Experiment(ws, name)


def record(ws: Workspace, run_id: str) -> dict[str, Any]:
    """The run's record with its history, as the wire has it."""
    found: dict[str, Any] = ws._client.get(f"/v1/runs/{run_id}")
    return found
