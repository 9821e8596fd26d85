"""The line to a Ray cluster: a driver process (``_ray_driver.py``) that is started again whenever it ends."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from windlass import settings

log = logging.getLogger(__name__)
_DRIVER = Path(__file__).with_name("_ray_driver.py")
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 15.0
_TICK_S = 1.0
_END_S = 5.0


@dataclass(frozen=True)
class Way:
    """How a Ray cluster is reached. ``python`` runs the driver."""

    address: str
    python: str = field(default_factory=lambda: sys.executable)
    agent_python: str | None = None
    namespace: str = ""
    token: str | None = field(default=None, repr=False)


class RayLine:
    """Talks to one driver at a time, in threads of its own.

    Args:
        way: Where to.
        hear: Called with each thing that the driver says, and with ``{"gone": WORDS}`` when it has ended.
        tick: Called about once a second.
    """

    def __init__(self, way: Way, hear: Callable[[Mapping[str, Any]], None], tick: Callable[[], None]) -> None:
        self.way = way
        self._hear = hear
        self._tick = tick
        self._closed = threading.Event()
        self._orders: queue.SimpleQueue[tuple[int, Mapping[str, Any] | None]] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._number = 0
        self._threads = [
            threading.Thread(target=work, name=f"{work.__name__} {way.address}", daemon=True)
            for work in (self._keep, self._write)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int | None:
        """The driver's, while there is one."""
        return self._process.pid if self._process else None

    def send(self, **order: Any) -> None:
        """Have the driver that is there now do something; forgotten with it."""
        self._orders.put((self._number, order))

    def close(self) -> None:
        """End the driver; what it made in Ray stays."""
        self._orders.put(_LAST)
        self._threads[-1].join(_END_S)
        self._closed.set()
        process = self._process
        if process is not None:
            _close(process.stdin)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in self._threads:
            thread.join(_END_S)

    def _keep(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._closed.is_set():
            began = time.monotonic()
            words = self._one_driver()
            if self._closed.is_set():
                return
            self._hear({"gone": words})
            if time.monotonic() - began > _LONGEST_WAIT_S:
                wait_s = _FIRST_WAIT_S
            self._closed.wait(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _one_driver(self) -> str:
        """Start a driver and hear it to its end; says how it ended."""
        way = self.way
        try:
            process = subprocess.Popen(
                [way.python, "-u", str(_DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                start_new_session=True, env=settings.child_environment(), cwd=os.sep,
            )  # fmt: skip
        except OSError as problem:
            words = f"The interpreter {way.python} cannot be started: {problem.strerror}. Name another with `python`."
            self._tell({"refused": "python", "message": words})
            return words
        self._process = process
        self._number += 1
        self.send(
            do="connect", address=way.address, namespace=way.namespace, agent_python=way.agent_python, token=way.token
        )
        if self._closed.is_set():  # meanwhile
            _close(process.stdin)
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    said = json.loads(line)
                except ValueError:
                    log.warning("the driver of Ray at %s said %r", way.address, line[:200])
                    continue
                self._tell(said)
        self._process = None
        _close(process.stdin)
        return f"The process that speaks to Ray at {way.address} ended with {process.wait()}."

    def _tell(self, said: Mapping[str, Any]) -> None:
        try:
            self._hear(said)
        except Exception:  # the edge: one message must not end the line
            log.exception("what the driver of Ray at %s said could not be used: %.500s", self.way.address, said)

    def _write(self) -> None:
        """Orders go out in a thread: a driver that does not read must hold up nobody."""
        while not self._closed.is_set():
            try:
                number, order = self._orders.get(timeout=_TICK_S)
            except queue.Empty:
                self._tick()
                continue
            if order is None:
                return
            process = self._process
            if process is None or process.stdin is None or number != self._number:
                continue
            try:
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            except (OSError, ValueError):
                continue  # it has ended; the next is told what still holds


_LAST: tuple[int, None] = (0, None)
"""Nothing is sent after it."""


def _close(pipe: IO[str] | None) -> None:
    try:
        if pipe:
            pipe.close()
    except OSError:
        pass  # what was not written is for nobody
