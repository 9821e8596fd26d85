"""What the driver process sends to the nodes of a Ray cluster, as it stands here: standard library and Ray only.

Windlass itself need not be there for this to arrive, so that its absence can be told.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

_LOOK_S = 0.5


class Place:
    """An actor that keeps one node of a job, and the agent there. It travels to the node as it stands here."""

    def __init__(self, agent_python: str | None) -> None:
        self._python = agent_python
        self._agent: Any = None
        self._said: list[str] = []
        self._reader: Any = None
        self._turn = threading.Lock()  # calls may overtake each other
        self._over = False
        threading.Thread(target=self._stay_with, args=(os.getppid(),), daemon=True).start()

    def where(self) -> dict[str, Any]:
        """What this node is, which GPUs Ray gave, and whether the agent was started."""
        ray: Any = importlib.import_module("ray")
        context = ray.get_runtime_context()
        gpus = [str(gpu) for gpu in context.get_accelerator_ids().get("GPU", [])]
        return {"node": context.get_node_id(), "address": ray.util.get_node_ip_address(), "host": socket.gethostname(),
                "gpus": gpus, "started": self._agent is not None}  # fmt: skip

    def start(self, ticket: str) -> int:
        """Start the agent with its ticket on standard input, which stays open; once only. Its pid."""
        with self._turn:
            if self._over:
                raise RuntimeError("its place was taken before it was started")
            if self._agent is None:
                self._begin(ticket)
            return int(self._agent.pid)

    def watch(self, patience_s: float) -> dict[str, Any] | None:
        """How the agent ended, ``{"code", "said"}``; None when it still runs after that time."""
        try:
            code = self._agent.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(1.0)
        return {"code": code, "said": "\n".join(self._said[-8:])}

    def stop(self, grace_s: float) -> None:
        """Close the agent's standard input and return when it has ended, after that time by force."""
        with self._turn:
            self._over = True
        if self._agent is None:
            return
        try:
            self._agent.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._agent.wait(grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._agent.pid, signal.SIGKILL)
            self._agent.wait()

    def _begin(self, ticket: str) -> None:
        if not self._python and importlib.util.find_spec("windlassd") is None:
            raise RuntimeError(
                f"Windlass is not installed beside Ray ({sys.executable}): run `{sys.executable} -m pip install "
                "windlass` there, or name another interpreter with agent_python"
            )
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):  # the server says which
            ours.pop(name, None)
        self._agent = subprocess.Popen(
            [self._python or sys.executable, "-m", "windlassd.agent", "--elsewhere"], env=ours, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._agent.stdin.write(ticket.encode() + b"\n")
            self._agent.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended already: ``watch`` tells how

    def _stay_with(self, ray: int) -> None:
        """End when Ray has died here: it would itself wait for the end of whoever watches the agent."""
        while os.getppid() == ray:
            time.sleep(_LOOK_S)
        os._exit(1)

    def _read(self) -> None:
        """What the agent says goes to Ray's log of this actor, and its last lines are kept for the server."""
        for line in self._agent.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
            self._said = [*self._said[-40:], text[:500]]


def node_facts(agent_python: str | None) -> dict[str, Any]:
    """A task: what ``python -m windlassd.agent --facts`` says on a node."""
    if not agent_python and importlib.util.find_spec("windlassd") is None:
        return {"error": f"Windlass is not installed beside Ray there ({sys.executable}): run `{sys.executable} -m pip "
                "install windlass` on it, or name another interpreter with agent_python"}  # fmt: skip
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    words = [agent_python or sys.executable, "-m", "windlassd.agent", "--facts"]
    try:
        done = subprocess.run(words, env=ours, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return {"told": json.loads(done.stdout)}
        return {"error": f"`{' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}"}
    except (OSError, ValueError, subprocess.TimeoutExpired) as problem:
        return {"error": f"`{' '.join(words)}` failed: {problem}"}
