"""Holds the agents of one job on machines of ``netns.py``, so that they outlive the server; a script, stdlib only.

Its argument is the path of a socket. It reads one line of JSON from standard input, ``{"parts": [{"command",
"variables", "ticket", "log"}, …], "grace_s"}``, starts each command, writes its ticket to it and keeps that pipe open.
Whoever connects to the socket is told ``{"exited": rank, "code": n}`` of each, also of those that were before, and may
write ``end RANK``: the agent's standard input is closed, and what is there after the grace is killed. It goes
into the background once it can be reached, and ends when all have exited.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Holder:
    """The agents and who wants to know of them."""

    def __init__(self, address: str, given: dict[str, Any]) -> None:
        self._address = address
        self._grace_s = float(given["grace_s"])
        self._listeners: list[socket.socket] = []
        self._exits: dict[int, int] = {}
        self._kill_at: dict[int, float] = {}
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(address)
        self._door.listen()
        if os.fork():  # it can be reached: whoever started it need not wait any longer
            os._exit(0)
        os.setsid()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ, self._accept)
        self._agents = [self._start(rank, part) for rank, part in enumerate(given["parts"])]

    def run(self) -> None:
        """Return when all agents have exited and who listens was told."""
        while len(self._exits) < len(self._agents):
            soonest = min(self._kill_at.values(), default=None)
            left = None if soonest is None else max(0.0, soonest - time.monotonic())
            for key, _ in self._selector.select(left):
                key.data(key.fileobj)
            for rank, at in list(self._kill_at.items()):
                if time.monotonic() >= at:
                    del self._kill_at[rank]
                    self._kill(rank)
        Path(self._address).unlink()

    def _start(self, rank: int, part: dict[str, Any]) -> subprocess.Popen[bytes]:
        with open(part["log"], "ab") as log:
            agent = subprocess.Popen(
                part["command"], stdin=subprocess.PIPE, stdout=log, stderr=log, env=part["variables"], cwd="/"
            )
        assert agent.stdin is not None
        try:
            agent.stdin.write(part["ticket"].encode() + b"\n")
            agent.stdin.flush()
        except BrokenPipeError:  # its machine has just died
            pass
        ended = os.pidfd_open(agent.pid)
        self._selector.register(ended, selectors.EVENT_READ, lambda _: self._reap(rank, ended))
        return agent

    def _reap(self, rank: int, ended: int) -> None:
        self._selector.unregister(ended)
        os.close(ended)
        self._kill_at.pop(rank, None)
        self._exits[rank] = self._agents[rank].wait()
        for listener in self._listeners:
            self._tell(listener, rank)

    def _accept(self, door: socket.socket) -> None:
        listener, _ = door.accept()
        self._listeners.append(listener)
        self._selector.register(listener, selectors.EVENT_READ, self._hear)
        for rank in self._exits:
            self._tell(listener, rank)

    def _hear(self, listener: socket.socket) -> None:
        try:
            said = listener.recv(4096)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(listener)
            self._listeners.remove(listener)
            listener.close()
        for rank in [int(line[4:]) for line in said.decode().splitlines() if line.startswith("end ")]:
            if rank not in self._exits and rank not in self._kill_at:
                self._close(rank)
                self._kill_at[rank] = time.monotonic() + self._grace_s

    def _tell(self, listener: socket.socket, rank: int) -> None:
        try:
            listener.sendall(json.dumps({"exited": rank, "code": self._exits[rank]}).encode() + b"\n")
        except OSError:  # it has gone, which is heard next
            pass

    def _close(self, rank: int) -> None:
        pipe = self._agents[rank].stdin
        assert pipe is not None
        try:
            pipe.close()
        except BrokenPipeError:
            pass

    def _kill(self, rank: int) -> None:
        """Kill the agent: what the ``nsenter`` that waits for it has below."""
        for pid in _below(self._agents[rank].pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _below(pid: int) -> list[int]:
    """A process's children and theirs."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in children.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return [*found, *(further for child in found for further in _below(child))]


if __name__ == "__main__":
    Holder(sys.argv[1], json.loads(sys.stdin.readline())).run()
