"""The agent's end of the nursery: starts it, and asks it for keepers."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from windlassd.agent import keeper


class Keeper:
    """One keeper process, over its socket. ``messages`` is for one thread; the orders may come from any."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.pid: int | None = None
        """Its process, once it has said so, which it does before it starts anything."""

    def terminate(self) -> None:
        """Send SIGTERM to the ranks."""
        self._order(b"T")

    def kill(self) -> None:
        """Kill every process of the run's part."""
        self._order(b"K")

    def messages(self, wake_fd: int, timeout_s: Any) -> Iterator[Mapping[str, Any] | None]:
        """What the keeper tells, until it is gone; None when ``wake_fd`` was written to or a time-out passed.

        Args:
            wake_fd: An eventfd that another thread writes to so that the caller looks at its deadlines again.
            timeout_s: A function that gives the seconds until the next deadline, or None.
        """
        pending = b""
        watched: list[Any] = [self._sock, wake_fd]
        while True:
            ready: list[Any] = select.select(watched, [], [], timeout_s())[0]
            if wake_fd in ready:
                os.eventfd_read(wake_fd)
            if self._sock not in ready:
                yield None
                continue
            try:
                data = self._sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "keeper" in message:
                    self.pid = int(message["keeper"])
                else:
                    yield message

    def end(self) -> None:
        """SIGKILL the keeper itself, which takes its ranks with it: for one that answers no order."""
        if self.pid is not None:  # it is alive, or a zombie: ``messages`` saw no end of it
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Let go of the socket; a keeper that still runs takes that for the agent's death."""
        self._sock.close()

    def _order(self, order: bytes) -> None:
        try:
            self._sock.send(order)
        except OSError:  # it has ended: nothing is left to signal
            pass


class Nursery:
    """Starts keepers. The nursery process itself is started at once and again when it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ensure()

    @property
    def pid(self) -> int | None:
        """Its process."""
        return self._process.pid if self._process else None

    def start(self, launch_file: str) -> Keeper:
        """A keeper that runs the launch file's ranks."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                self._send(launch_file, theirs)
            except OSError:  # the nursery was killed: its keepers live on, new ones need a new nursery
                self._ensure()
                self._send(launch_file, theirs)
        return Keeper(ours)

    def end(self) -> None:
        """SIGKILL the nursery, which answers no order; its keepers live on, and the next start makes another."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Let the nursery end when its last keeper has."""
        with self._lock:
            if self._control:
                self._control.close()

    def _send(self, launch_file: str, fd: socket.socket) -> None:
        assert self._control is not None
        socket.send_fds(self._control, [os.fsencode(launch_file)], [fd.fileno()])

    def _ensure(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
            )  # fmt: skip
        if self._control:
            self._control.close()
        self._control = ours
